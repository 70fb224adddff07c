"""The methods text changes with every setting of the study file that changes a number."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconfmri.config import parse_config
from reconfmri.report.methods import Facts, methods_text

ROOT = Path(__file__).resolve().parents[1]
FACTS = Facts(8, 28, (2.0,), (120, 120), distortion={"phase difference": 28})
ANSWERED = "amygdala.trauma_first-neutral_first"
# Settings by name: another value than the default.
CHOICES = {
    "preprocessing.registration": "full",
    "preprocessing.anatomy": "baseline",
    "preprocessing.distortion": "none",
    "preprocessing.readout_time": 0.05,
    "first_level.hrf": "spm",
    "first_level.noise": "ols",
    "first_level.scrubbing": {"fd": 0.5},
    "first_level.modulators.suds_trauma.condition": "sad",
    "connectivity.scrubbing": {"fd": 0.5},
    "group.blinding": "coded",
    "rois.summary": "median",
    "group.covariance": "random_intercept",
    "group.likelihood": "student_t",
    "group.spread": "by_arm",
    "group.information": "expected",
    "group.correction": "benjamini_hochberg",
    "group.voxels.estimands": ["difference_of_change"],
    "group.voxels.regions": ["vmpfc"],
    "group.responders.response.missing": "observed",
    "group.intercurrent_events": "events.tsv",
    "quality.max_registration_cost": 0.7,
    "physiology.heart_rate.source": "pulse",
    "quality.max_ghost": 0.1,
    "quality.max_start_excess": 0.5,
    "rois.min_tsnr": 20.0,
}
# What changes no number, or what a page shows elsewhere, by its start.
NO_NUMBER = {
    "name": "the page's title",
    "question": "at the top of the page",
    "bids": "a place",
    "group.allocation": "a place",
    "group.attributes": "at the top of the page",
    "skin_conductance.column": "a place within a recording",
    "tasks.memory.min_runs": "which runs are there: in the flow of scans",
    "tasks.memory.mixed_tr": "which runs are there: in the flow of scans",
    "tasks.memory.max_shortfall": "which runs are there: in the flow of scans",
    "rois.segmentation": "the demo has no region of it: tests/test_segmentation.py",
    "group.scales.√µS": "the demo models no outcome of this unit",
    "group.scales.µS": "the demo models no outcome of this unit",
    "group.scales.responses/min": "the demo models no outcome of this unit",
    "group.scales.bpm": "the demo models no outcome of this unit",
    "group.scales.√bpm": "the demo models no outcome of this unit",
    "group.scales.ms": "the demo models no outcome of this unit",
    "group.scales.breaths/min": "the demo models no outcome of this unit",
    "group.scales.√µV": "the demo models no outcome of this unit",
    "physiology.heart_rate.column": "a place within a recording",
    "physiology.respiration.column": "a place within a recording",
    "physiology.emg.column": "a place within a recording",
    "group.scales.mm": "the demo has no outcome of this unit",
    "group.scales.tSNR": "the demo has no outcome of this unit",
    "group.scales.PPI slope": "the demo has this unit among twins only, which have no prior",
    "group.scales.ln percent SD": "the demo models no outcome of this unit",
    "group.safety": "shown, not modelled",
    "group.priors.between": "of pooled effects, which the demo has not",
    "scales": "ends of items and totals are in the text; an odd one is refused",
}
# Settings of which no single one can change, for others name it: the combination is refused.
TIED = (
    "tasks.memory.conditions.",
    "tasks.memory.events",
    "preprocessing.engine",
    "preprocessing.fmriprep",
    "rois.regions.",
    "rois.combined.",
    "first_level.task",
    "first_level.maps",
    "group.voxels.contrasts",
    "connectivity.",
    "first_level.script_contrasts.",
    "first_level.fir",  # with `hrf: fir`: tests/test_first_level_choices.py
    "first_level.modulators.suds_trauma.centre",  # with `events: condition`: there too
    "skin_conductance.task",
    "physiology.task",
    "group.primary.",
    "group.arms.comparisons",  # with several active arms: tests/test_arms.py
    "group.arms.doses",
    "group.moderators",
    "group.exploratory",
    "group.responders.",
    "group.bounded.",
    "group.ordinal",
    "group.pooled",
    "group.sampling.",
    "group.scales.",
)


def study_file() -> dict[str, Any]:
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["skin_conductance"]["scores"] = ["peak", "level", "area", "count", "canonical", "fluctuations"]
    raw["physiology"] = {"task": "memory", "conditions": ["trauma", "neutral"], "heart_rate": {}}
    raw["physiology"] |= {"respiration": {}, "emg": {}}
    raw["first_level"]["modulators"] = {"suds_trauma": {"condition": "trauma", "column": "suds"}}
    raw["first_level"]["maps"] = ["trauma_first-neutral_first"]
    return parse_config(raw).model_dump(mode="json")


def leaves(section: Any, *path: str) -> Iterator[tuple[str, ...]]:
    if isinstance(section, dict):
        for key, part in section.items():
            yield from leaves(part, *path, key)
    else:
        yield path


def others(key: str, value: Any) -> list[Any]:
    """Other values to try."""
    if key in CHOICES:
        return [CHOICES[key]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [other for other in (value * 2, value / 2, value + 1, value * 0.9) if other != value]
    if isinstance(value, str):
        return [f"{value}x"]
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return [[value[0], value[1] * 0.9], [value[0], value[1] * 1.1]] if len(value) == 2 else [["x"]]
    return [value[:-1], value[1:]] if isinstance(value, list) else ["x", 1]


def changed(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    found = copy.deepcopy(raw)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return found


@pytest.mark.parametrize("path", list(leaves(study_file())), ids=".".join)
def test_a_setting_that_changes_numbers_changes_the_text(path):
    key, raw = ".".join(path), study_file()
    if key.startswith(tuple(NO_NUMBER)):
        return
    inner: Any = raw
    for part in path:
        inner = inner[part]
    before = methods_text(parse_config(raw), FACTS)
    tried = []
    for value in others(key, inner):
        try:
            study = parse_config(changed(raw, path, value))
        except ValueError:
            continue
        tried.append(methods_text(study, FACTS) != before)
        break
    assert all(tried)
    assert tried or key.startswith(TIED), "no other value is accepted: name one in CHOICES"
