"""Which words of a study file may go into the command line of fMRIPrep's container."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reconfmri.choices import check_choice
from reconfmri.problems import SettingError

SET_HERE = (
    *("--participant-label", "--output-spaces", "--work-dir", "--fs-license-file", "--notrack"),
    *("--nthreads", "--nprocs", "--n-cpus", "--mem", "--mem-mb"),
)
# With these fMRIPrep reads other files than the index, takes its settings from elsewhere, or makes no series.
RULED_OUT = (
    *("--bids-filter-file", "--bids-database-dir", "--config-file", "--output-layout", "--level"),
    *("--anat-only", "--reports-only", "--boilerplate-only", "--help", "--version"),
)
WORD = re.compile(r"[A-Za-z0-9_./:,=+@%-]+")
SHORT = re.compile(r"-v*[wh]")  # argparse reads -vw/x as -v -w /x
DOCKER_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


def check_options(words: Sequence[str]) -> None:
    """Check that `words` may follow the options that the workflow sets.

    fMRIPrep takes any unambiguous beginning of an option for the option itself, with dashes or underscores.
    The start script of an Apptainer image hands its words to a shell.

    Raises
    ------
    ValueError
        A word sets what the workflow sets or cannot do without, is no plain word, or the first is no option.
    """
    odd = [word for word in words if not WORD.fullmatch(word)]
    if odd:
        raise SettingError(
            f"{odd} are no plain words",
            "one word each, of letters, digits and _ . / : , = + @ % -",
        )
    taken = [word for word in words if word == "--" or SHORT.match(word) or _begins(word, SET_HERE)]
    if taken:
        raise SettingError(
            f"the workflow sets {taken}",
            "delete them",
        )
    out = [word for word in words if _begins(word, RULED_OUT)]
    if out:
        raise SettingError(
            f"the workflow cannot work with {out}",
            "delete them",
        )
    if words and not words[0].startswith("-"):
        fix = "begin with the name of the option, such as --skull-strip-t1w"
        raise SettingError(f"{words[0]!r} belongs to no option", fix)


def check_image(runtime: str, image: str) -> None:
    """Check that `image` is the name of one, and no option of the program that runs it.

    Raises
    ------
    ValueError
        It is none.
    """
    check_choice("runtime", runtime, ("apptainer", "docker"))
    is_name = DOCKER_IMAGE.fullmatch(image) if runtime == "docker" else not image.startswith("-")
    if not is_name or not image.isprintable():
        form = (
            "name:tag, such as nipreps/fmriprep:25.2.5" if runtime == "docker" else "the path of a .sif file"
        )
        raise SettingError(
            f"{image!r} is no image of {runtime}",
            f"give {form}",
        )


def _begins(word: str, options: Sequence[str]) -> bool:
    name = word.partition("=")[0].replace("_", "-")
    return len(name) > 2 and any(option.startswith(name) for option in options)
