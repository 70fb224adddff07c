"""`reconfmri fetch`: the atlases that a study names by their source, into its folder."""

from __future__ import annotations

from argparse import Namespace

from reconfmri.cli.screen import show_problems
from reconfmri.config import CONFIG
from reconfmri.locks import hold


def fetch(options: Namespace) -> int:
    """Fetch what is absent, and show what was done."""
    from reconfmri.checks import read_study
    from reconfmri.fetching import fetch as fetch_atlases

    study, problems = read_study(options.study / CONFIG)
    if study is None:
        show_problems(problems)
        return 1
    with hold(options.study, shared=[], alone=["study"]):
        print("\n".join(fetch_atlases(options.study, study)))
    return 0
