"""Which versions of fMRIPrep made a person's outputs, and what is known of them."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

from reconfmri import bids
from reconfmri.config import Fmriprep
from reconfmri.labels import first_of
from reconfmri.problems import Problem

VERSION_IN_REPORT = re.compile(rb"fMRIPrep version:\s*(?:</[a-z]+>\s*)?v?([0-9][0-9A-Za-z.+-]*)")


# What its makers say of some versions.
FLAWS = {
    "1.5.0": "its makers flagged it as unstable",
    **dict.fromkeys(
        ("20.1.0", "20.1.1", "20.1.2", "20.1.3", "20.2.0", "20.2.1"),
        "series may be misplaced in the template (nipreps/fmriprep 2307, fixed in 20.1.4 and 20.2.2)",
    ),
    **dict.fromkeys(
        ("25.1.0", "25.1.1", "25.1.2", "25.1.3", "25.1.4"),
        "the interpolation made artefacts in some data (release notes of 25.2.0)",
    ),
}


def versions_of(root: Path, person: str, *, last: bool = False) -> list[str]:
    """Return the versions of fMRIPrep that made a person's outputs; none when nothing tells.

    Its logs tell, else the report, else the dataset's description. With `last` only the last log counts: a
    container's job makes all outputs of a person anew, and leaves the logs of earlier ones.
    """
    logs = [*root.glob(f"{person}/log/*/fmriprep.toml"), *root.glob(f"{person}/ses-*/log/*/fmriprep.toml")]
    logs = sorted(logs, key=lambda log: log.parent.name)[-1 if last else 0 :]
    found = {version for log in logs if (version := _version_in_log(log))}
    found = found or _versions_in_report(root / f"{person}.html")
    return sorted(found or _versions_in_description(root))


def _version_in_log(path: Path) -> str | None:
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8")).get("environment", {}).get("version")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None  # cut short by a crash; the report and the description still tell
    return str(known) if known else None


def _versions_in_report(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {found.decode() for found in VERSION_IN_REPORT.findall(path.read_bytes())}


def _versions_in_description(root: Path) -> set[str]:
    """`GeneratedBy` from 20.2 on, `PipelineDescription` before."""
    path = root / "dataset_description.json"
    try:
        content: dict[str, Any] = bids.read_json(path)
    except (ValueError, FileNotFoundError):
        return set()
    made_by = content.get("GeneratedBy") or content.get("PipelineDescription") or []
    tools = made_by if isinstance(made_by, list) else [made_by]
    known = [tool for tool in tools if isinstance(tool, dict)]
    named = [tool for tool in known if str(tool.get("Name", "")).lower() == "fmriprep"]
    return {str(tool["Version"]) for tool in named if tool.get("Version")}


def check_versions(root: Path, people: list[str], settings: Fmriprep) -> list[Problem]:
    """Versions that are several, unknown or flawed; between the jobs of a container several are only told."""
    by_version: dict[str, list[str]] = defaultdict(list)
    with_container = settings.container is not None
    unknown = []
    for person in people:
        versions = versions_of(root, person, last=with_container) if (root / person).is_dir() else []
        for version in versions:
            by_version[version].append(person)
        unknown += [person] if (root / person).is_dir() and not versions else []
    for version in set() if with_container else _versions_in_description(root):
        by_version.setdefault(version, ["dataset_description.json"])
    problems = [
        Problem(
            "WARN",
            "W-BIDS-A12",
            f"fMRIPrep {version} made the outputs of {first_of(who)}: {FLAWS[version]}",
            "look at the pictures of these runs in the report, or run a later version",
            settings.derivatives,
        )
        for version, who in sorted(by_version.items())
        if version in FLAWS
    ]
    if unknown:
        what = f"it is unknown which fMRIPrep made the outputs of {first_of(unknown)}"
        fix = "keep its dataset_description.json, its logs and reports beside the outputs"
        problems.append(Problem("WARN", "W-BIDS-A12", what, fix, settings.derivatives))
    if len(by_version) > 1:
        told = "; ".join(f"{version}: {first_of(who)}" for version, who in sorted(by_version.items()))
        what = f"outputs of several versions of fMRIPrep ({told})"
        if settings.allow_mixed_versions or with_container:
            fix = (
                "no action is needed, it is allowed"
                if settings.allow_mixed_versions
                else "let the container's jobs finish"
            )
            problems.append(Problem("WARN", "W-BIDS-A12", what, fix, settings.derivatives))
        else:
            fix = "run one version for everybody, or set preprocessing.fmriprep.allow_mixed_versions: true"
            problems.append(Problem("STOP", "E-BIDS-A12", what, fix, settings.derivatives))
    return problems
