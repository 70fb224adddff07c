"""Where every result file of a study lies.

The rules of the workflow take outputs and logs from here, `reconfmri status` its stages, and a test the list
of all that a finished study holds. What there is: `contracts.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconfmri.bids import bids_path
from reconfmri.config import Study, contrast_label
from reconfmri.contracts.rules import RULES, File, Unit
from reconfmri.tables import MISSING

STATISTICS = ("effect", "variance", "z")
# The BIDS folder of each unit's files, and the entities in their names.
DATATYPES: dict[Unit, str] = {"scan": "func", "anatomy": "anat", "person": "func"}
ENTITIES: dict[Unit, tuple[str, ...]] = {
    "scan": ("sub", "ses", "task", "run"),
    "anatomy": ("sub", "ses"),
    "person": ("sub",),
    "scale": ("scale",),
    "study": (),
}


@dataclass(frozen=True)
class Layout:
    """Where the files of a study lie; entities that none of its scans has are left out of every name.

    `sessionwise`: each session has an anatomy of its own. `root` is the folder of results.
    """

    has_sessions: bool
    has_runs: bool
    sessionwise: bool = False
    root: str = "results"

    @property
    def derivatives(self) -> str:
        """The folder of BIDS derivatives."""
        return f"{self.root}/derivatives"

    def path(self, rule: str, name: str, **wildcards: str) -> str:
        """Return the pattern of a file, with `wildcards` filled in; the others stay as `{sub}`."""
        file = RULES[rule].files[name]
        pattern = f"{self.root}/{file.path}" if file.path else self._derivative(file)
        return _filled(pattern, wildcards) if wildcards else pattern

    def outputs(self, rule: str) -> dict[str, str]:
        """Return name -> pattern of every file that a rule makes."""
        return {name: self.path(rule, name) for name in RULES[rule].files}

    def maps(self, contrasts: list[str]) -> list[str]:
        """Return the patterns of the maps of contrasts, every statistic of each."""
        pattern = self.path("estimate_maps", "maps")
        return [
            _filled(pattern, {"contrast": contrast_label(contrast), "stat": stat})
            for contrast in contrasts
            for stat in STATISTICS
        ]

    def named(self, study: Study, rule: str) -> list[str]:
        """Return the files of a rule whose names follow from the study."""
        more = RULES[rule].named
        return [f"{self.root}/{path}" for path in more(study)] if more else []

    def log(self, rule: str) -> str:
        """Return the pattern of a rule's log, one per job."""
        return f"logs/{rule}/{self.unit(RULES[rule].of)}.log"

    def unit(self, of: Unit) -> str:
        """Return the pattern that names a unit: `sub-{sub}_ses-{ses}`, `{scale}`, `study`."""
        if of == "scale":
            return "{scale}"
        return "_".join(f"{key}-{{{key}}}" for key in self._entities(of)) or "study"

    def wildcards(self, scan: Mapping[Any, Any]) -> dict[str, str]:
        """Return the values of `sub`, `ses`, `task`, `run` for a row of the run table.

        A scan without run entity beside others that have one is run 1.
        """
        return {
            "sub": str(scan["participant_id"]).removeprefix("sub-"),
            "ses": str(scan["session_id"]),
            "task": str(scan["task"]),
            "run": "1" if scan["run"] == MISSING else str(scan["run"]),
        }

    def files(self, study: Study, scans: Sequence[Mapping[Any, Any]]) -> Iterator[tuple[str, str, str]]:
        """Yield (rule, output, path) of every file of a finished study; `scans`: rows of its run table."""
        for name, rule in RULES.items():
            jobs = [scan for scan in scans if rule.is_of(study, scan)] if rule.of == "scan" else scans
            for output, file in rule.files.items() if rule.is_in(study) else ():
                for path in self._of_units(study, name, output, file, jobs):
                    yield name, output, path
            for path in self.named(study, name) if rule.is_in(study) else ():
                yield name, "named", path

    def _of_units(
        self, study: Study, rule: str, output: str, file: File, scans: Sequence[Mapping[Any, Any]]
    ) -> Iterator[str]:
        if output == "maps" and study.first_level:
            patterns = self.maps(study.first_level.maps)
        else:
            patterns = [self.path(rule, output)]
        units = [self.wildcards(scan) for scan in scans]
        if file.of in ("study", "scale"):
            units = [{}] if file.of == "study" else [{"scale": name} for name in study.scales]
        yield from dict.fromkeys(_filled(pattern, unit) for unit in units for pattern in patterns)

    def _entities(self, of: Unit) -> list[str]:
        absent = {
            "ses": not self.has_sessions or (of == "anatomy" and not self.sessionwise),
            "run": not self.has_runs,
        }
        return [key for key in ENTITIES[of] if not absent.get(key, False)]

    def _derivative(self, file: File) -> str:
        unit = {key: f"{{{key}}}" for key in self._entities(file.of)}
        return bids_path(
            self.derivatives,
            datatype=DATATYPES[file.of],
            suffix=file.suffix,
            ext=file.ext,
            **unit,
            **file.entities,
        )


def of_study(rule: str, name: str) -> str:
    """Return a file that a study has once, whatever its scans are called."""
    return Layout(has_sessions=False, has_runs=False).path(rule, name)


def _filled(pattern: str, wildcards: Mapping[str, str]) -> str:
    for key, value in wildcards.items():
        pattern = pattern.replace(f"{{{key}}}", value)
    return pattern
