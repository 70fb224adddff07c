"""Profiles of Snakemake: where and with what the jobs of `reconfmri run` run, never what they compute."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from reconfmri.files import InputError
from reconfmri.provenance import workflow_folder

VARIABLE = "SNAKEMAKE_PROFILE"
NAMES = re.compile(r"(profile|config)(\.v[0-9]+\+)?\.yaml")
# What the study file decides, or the command line does: a profile that sets these runs another analysis.
RULED_OUT = (
    *("config", "configfile", "configfiles", "snakefile", "directory", "profile", "workflow-profile"),
    *("nolock", "ignore-incomplete", "rerun-triggers", "touch", "forceall", "force", "targets"),
    *("omit-from", "until", "batch", "allowed-rules", "consider-ancient", "set-scatter", "wrapper-prefix"),
)
CODE = "E-CONF-D05"
SWITCH = "__use_yte__"  # Snakemake runs the code of a profile that sets it


def options_of(given: str | None, folder: Path) -> tuple[list[str], Mapping[str, Any]]:
    """Return Snakemake's options for a profile, and what stands in it.

    `given` is a path or a name; without one the variable SNAKEMAKE_PROFILE counts, as for Snakemake. No other
    profile is read: not one that lies in a study folder, which somebody else may have written.

    Raises
    ------
    ValueError
        There is no such profile, it holds code, or it sets what a profile must not.
    """
    name = given or os.environ.get(VARIABLE)
    alone = ["--workflow-profile", "none"]
    if not name or name == "none":
        return alone, {}
    place = find(name, folder)
    content: dict[str, Any] = {}
    for file in files_of(place):
        content |= read(file)
    return [*alone, "--profile", str(place)], content


def find(name: str, folder: Path) -> Path:
    """Return the place of a profile: a path; else by name in the study folder, of the user, of the package.

    Raises
    ------
    ValueError
        There is none.
    """
    user = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "snakemake"
    rooms = [folder / "workflow/profiles", user, workflow_folder() / "workflow/profiles"]
    for place in [Path(name), *(room / name for room in rooms)]:
        if files_of(place):
            return place.absolute()
    where = ", ".join(str(room) for room in rooms)
    fix = f"give a path, or a name in {where}"
    raise InputError(f"--profile {name}", "no such profile", fix=fix, code=CODE)


def files_of(place: Path) -> list[Path]:
    """Return the files of a profile: those that Snakemake may take, whichever version it is of."""
    if place.is_dir():
        return sorted(file for file in place.iterdir() if NAMES.fullmatch(file.name) and file.is_file())
    return [place] if place.is_file() else []


def read(file: Path) -> dict[str, Any]:
    """Return what stands in a profile's file, after a look for what it must not hold.

    Raises
    ------
    ValueError
        It is no YAML of plain values, holds code, or sets what a profile must not.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise InputError(file, why, fix="a profile holds plain YAML", code=CODE) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or SWITCH in content:
        fix = "a profile holds plain `key: value`"
        raise InputError(file, f"holds code ({SWITCH}), or no settings", fix=fix, code=CODE)
    if taken := sorted(set(map(_bare, content)) & set(RULED_OUT)):
        fix = "delete them: a profile says where and with what jobs run, the study file what they compute"
        raise InputError(file, f"sets {', '.join(taken)}", fix=fix, code=CODE)
    return content


def _bare(key: object) -> str:
    return str(key).lstrip("-").replace("_", "-")
