"""A senseless study file stops with one line: key, value, what is expected, fix. Any other can be planned."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconfmri import nuisance
from reconfmri.bids import bids_path
from reconfmri.config import Study, Task, contrast_label, load_study, parse_config
from reconfmri.events import COLUMNS, name_events, script_regressors
from reconfmri.signal.first_level import contrast_weights

sys.path.insert(0, str(Path(__file__).parent / "workflow"))
from planned_study import plan_study, snakemake

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "config/config.yaml").read_text(encoding="utf-8")
DEMO = yaml.safe_load(TEXT)
DELETE = object()
CONDITIONS = "tasks.memory.conditions"
CONTRASTS = "first_level.contrasts"
FIRST = "amygdala.trauma_first-neutral_first"


def edited(*edits):
    """The demo's study file after edits (dotted key, value); keys that are not there are made."""
    raw = copy.deepcopy(DEMO)
    for key, value in edits:
        *path, last = [int(part) if part.isdigit() else part for part in key.split(".")]
        place = raw
        for part in path:
            place = place[part] if isinstance(place, list) else place.setdefault(part, {})
        if value is DELETE:
            del place[last]
        else:
            place[last] = value
    return raw


def refusal(raw):
    with pytest.raises(ValueError) as error:
        parse_config(raw)
    return str(error.value).splitlines()


SENSELESS = [
    # names of columns that we make
    *((f"{CONDITIONS}.sad", name, "E-CONF-C12", f"{CONDITIONS}: {name!r}")
      for name in ("constant", "csf", "drift_1", "global_signal", "trans_x", "rot_z_derivative1", "std_dvars",
                   "framewise_displacement", "a_comp_cor_00", "motion_outlier00", "cosine01", "run",
                   "damaged_volume_3", "non_steady_state_outlier00")),
    *(("rois.regions." + name, {"labels": ["Left Thalamus"]}, "E-CONF-C12", f"rois.regions: {name!r}")
      for name in ("constant", "csf", "drift_1", "white_matter", "t_comp_cor_1", "lowest", "median")),
    *(("rois.regions." + name, {"labels": ["Left Thalamus"]}, "E-CONF-C12", f"rois: {name!r}")
      for name in ("scr", "fd", "tsnr", "coverage")),
    ("rois.combined.csf", ["vmpfc", "occipital"], "E-CONF-C12", "rois.combined: 'csf'"),
    ("scales.scr", {"range": [0, 1], "unit": "mm"}, "E-CONF-C12", "scales: 'scr'"),
    ("scales.amygdala", {"range": [0, 1], "unit": "mm"}, "E-CONF-C12", "scales: 'amygdala'"),
    # one event by two names
    (CONDITIONS, {"x": "trauma", "y": "neutral", "z": "trauma_1"}, "E-CONF-C12", "'trauma_1' is what"),
    (CONDITIONS, {"x": "trauma", "y": "neutral", "z": "trauma_first"}, "E-CONF-C12", "'trauma_first' is"),
    (CONDITIONS, {"x": "trauma", "y": "neutral", "z": "sad_derivative", "w": "sad"}, "E-CONF-C12",
     "the derivative of 'sad'"),
    (f"{CONTRASTS}.twice", {"trauma_first": 1, "trauma_1": -1}, "E-CONF-C02",
     "twice names one event twice, 'trauma_first' and 'trauma_1'"),
    ("connectivity.conditions", ["trauma_first", "trauma_1"], "E-CONF-C02", "names one event twice"),
    ("skin_conductance.conditions", ["trauma_first", "trauma_1"], "E-CONF-C02", "names one event twice"),
    ("connectivity.conditions", ["trauma", "trauma"], "E-CONF-C02", "'trauma' is there twice"),
    ("skin_conductance.conditions", ["run"], "E-CONF-C04", "skin_conductance.conditions names 'run'"),
    # names that are no label, or one label
    *((f"{CONTRASTS}.{name}", {"trauma": 1}, "E-CONF-C02", f"{CONTRASTS}.{name}")
      for name in ("a b", "tést", "-x", "/etc/x")),
    (f"{CONTRASTS}.trauma_neutral", {"trauma": 1}, "E-CONF-C12", "one label in file names, 'traumaneutral'"),
    (f"{CONTRASTS}.TraumaNeutral", {"trauma": 1}, "E-CONF-C12", "one label in file names, 'traumaneutral'"),
    ("rois.regions.amygdalaleft", {"labels": ["Left Thalamus"]}, "E-CONF-C12", "'amygdala_left' and"),
    ("rois.regions.Amygdala", {"labels": ["Left Thalamus"]}, "E-CONF-C02", "rois.regions.Amygdala"),
    ("rois.regions.a/b", {"labels": ["Left Thalamus"]}, "E-CONF-C02", "rois.regions.a/b"),
    ("scales.pcl_5", {"range": [0, 80], "unit": "PCL-5 points"}, "E-CONF-C12", "'pcl5' and 'pcl_5'"),
    ("scales.vm_pfc", {"range": [0, 80], "unit": "PCL-5 points"}, "E-CONF-C12", "'vmpfc' and 'vm_pfc'"),
    ("scales./x", {"range": [0, 80], "unit": "PCL-5 points"}, "E-CONF-C02", "scales./x"),
    ("group.arms.active", "../x", "E-CONF-C02", "group.arms.active: got '../x'"),
    ("group.arms.active", "keta\tmine", "E-CONF-C02", "group.arms.active: got"),
    ("group.arms.active", " ", "E-CONF-C02", "group.arms.active"),
    ("group.arms.active", "mida-zolam", "E-CONF-C12", "'mida-zolam' and 'midazolam'"),
    ("group.arms.active", "Midazolam", "E-CONF-C02", "group.arms: spellings of the arm"),
    ("group.arms.active", "midazolam", "E-CONF-C02", "both 'midazolam'. Fix:"),
    ("filters.bold", {"dir": "../x"}, "E-CONF-C02", "filters"),
    ("filters.bold", {"dir": []}, "E-CONF-C02", "filters"),
    ("filters.bold", {"dir": ["AP", "AP"]}, "E-CONF-C02", "filters"),
    ("filters.T1w", {"acq": ""}, "E-CONF-C02", "filters"),
    # contrasts, regions and pairs without a question
    (f"{CONTRASTS}.zero", {"trauma": 0, "neutral": 0}, "E-CONF-C02", "zero: got"),
    (f"{CONTRASTS}.empty", {}, "E-CONF-C02", "every weight is 0"),
    (f"{CONTRASTS}.big", {"trauma": float("inf")}, "E-CONF-C02", "finite"),
    (f"{CONTRASTS}.nan", {"trauma": float("nan")}, "E-CONF-C02", "finite"),
    ("first_level.maps", ["trauma-neutral", "trauma-neutral"], "E-CONF-C02", "first_level.maps"),
    ("first_level.confounds", ["motion6", "motion6"], "E-CONF-C02", "first_level.confounds: 'motion6'"),
    ("preprocessing.acompcor", 0, "E-CONF-C02", "first_level.confounds names 'acompcor'"),
    ("rois.regions.vmpfc.labels", ["Frontal Medial Cortex"] * 2, "E-CONF-C02", "rois.regions.vmpfc.labels"),
    ("rois.regions.vmpfc.labels", [], "E-CONF-C02", "rois.regions.vmpfc: got [], expected one of labels"),
    ("rois.regions.again", {"labels": ["Left Amygdala"]}, "E-CONF-C02", "'amygdala_left' and 'again'"),
    ("rois.combined.amygdala", ["amygdala_left"], "E-CONF-C02", "rois.combined.amygdala"),
    ("rois.combined.amygdala", ["amygdala_left", "amygdala_left"], "E-CONF-C02", "rois.combined.amygdala"),
    ("connectivity.pairs", [["vmpfc", "vmpfc"]], "E-CONF-C02", "connectivity.pairs"),
    ("connectivity.pairs.1", ["hippocampus", "amygdala"], "E-CONF-C02", "connectivity.pairs"),
    ("connectivity.pairs.1", ["amygdala_left", "amygdala"], "E-CONF-C02", "share ['amygdala_left']"),
    # ranges, units, scales
    ("connectivity.band", [0.1, 0.01], "E-CONF-C02", "connectivity.band: got [0.1, 0.01]"),
    ("connectivity.band", [0.1, 0.1], "E-CONF-C02", "connectivity.band"),
    ("connectivity.band", [-0.1, 0.1], "E-CONF-C02", "connectivity.band"),
    ("skin_conductance.window", [10, 0], "E-CONF-C02", "skin_conductance.window: got [10.0, 0.0]"),
    ("skin_conductance.window", [-5, -1], "E-CONF-C02", "skin_conductance.window"),
    ("skin_conductance.min_sampling_frequency", 2, "E-CONF-C02", "above 6"),
    ("skin_conductance.max_gap", float("inf"), "E-CONF-C02", "skin_conductance.max_gap"),
    ("scales.pcl5.range", [80, 0], "E-CONF-C02", "scales.pcl5.range: got [80.0, 0.0]"),
    ("scales.pcl5.range", [80, 80], "E-CONF-C02", "scales.pcl5.range"),
    ("scales.pcl5.item_range", [4, 0], "E-CONF-C02", "scales.pcl5.item_range"),
    ("scales.pcl5.items", ["a", "b"], "E-CONF-C02", "scales.pcl5.items has 2, the scale 20 items"),
    ("scales.pcl5.items", ["a", "a"], "E-CONF-C02", "scales.pcl5.items"),
    ("scales.pcl5.items", ["total"], "E-CONF-C02", "scales.pcl5: the total 'total'"),
    ("scales.pcl5.total", "session_id", "E-CONF-C02", "scales.pcl5: 'session_id'"),
    ("scales.pcl5.unit", "", "E-CONF-C02", "scales.pcl5.unit"),
    *((f"quality.{key}", value, "E-CONF-C02", f"quality.{key}")
      for key, value in (("max_mean_fd", -0.5), ("max_mean_fd", 0), ("max_mean_fd", float("inf")),
                         ("fd_threshold", -1), ("min_tsnr", float("nan")), ("max_outlier_share", 30),
                         ("min_volumes", 0), ("max_ghost", 0), ("min_usable_time", float("inf")))),
    *(("group.scales", {"percent signal change": value}, "E-CONF-C02", "group.scales.percent signal change")
      for value in (-0.4, 0, float("inf"))),
    *((f"group.priors.{key}", value, "E-CONF-C02", f"group.priors.{key}")
      for key, value in (("effect", -1), ("mean", 0), ("sd", float("inf")), ("between", -0.5))),
    ("group.rope", {"PCL-5 points": -5}, "E-CONF-C02", "group.rope.PCL-5 points"),
    ("group.level", 1, "E-CONF-C02", "group.level"),
    ("group.permutations", 3, "E-CONF-C02", "group.permutations: got 3"),
    ("group.permutations", 10**12, "E-CONF-C02", "group.permutations"),
    ("group.sampling", {"min_ess": 1e6}, "E-CONF-C02", "group.sampling.min_ess is 1e+06"),
    ("group.sampling", {"draws": 10**9}, "E-CONF-C02", "group.sampling.draws"),
    # visits
    ("sessions.1.id", "1", "E-CONF-C02", "sessions: the id '1' is there twice"),
    ("sessions.1.id", "01", "E-CONF-C02", "sessions: spellings of the visit"),
    ("sessions.1.name", "baseline", "E-CONF-C02", "sessions: two have the name 'baseline'"),
    ("sessions.1.name", " ", "E-CONF-C02", "sessions.1.name"),
    ("sessions.1.day", 40, "E-CONF-C02", "go back in time"),
    ("sessions.1.day", float("inf"), "E-CONF-C02", "sessions.1.day"),
    # lists and the sets of outcomes
    ("group.outcomes.1", FIRST, "E-CONF-C02", f"group.outcomes: {FIRST!r} is there twice"),
    ("group.outcomes", [], "E-CONF-C02", "group.outcomes"),
    ("group.exploratory", ["amygdala.trauma-neutral"], "E-CONF-C02", "group.exploratory"),
    ("group.exploratory", ["fd.mean", "fd.mean"], "E-CONF-C02", "group.exploratory"),
    ("group.controls", [FIRST], "E-CONF-C02", "group.controls"),
    ("group.families.coupling", [FIRST], "E-CONF-C02", "which is in the family 'circuit' too"),
    ("group.families.circuit", [FIRST, FIRST], "E-CONF-C02", "group.families.circuit"),
    ("group.families.circuit", [], "E-CONF-C02", "group.families.circuit"),
    ("group.families.primary", [FIRST], "E-CONF-C12", "group.families.primary"),
    ("group.estimands", ["change_active"], "E-CONF-C02", "group.primary.estimand"),
    ("group.estimands", ["difference_adjusted"] * 2, "E-CONF-C02", "group.estimands"),
    ("group.covariates", {"a": {"column": "age"}, "b": {"column": "age"}}, "E-CONF-C02", "covariates.b"),
    ("group.intercurrent_events", "allocation.tsv", "E-CONF-C02", "group.intercurrent_events"),
    ("group.moderators", ["age"], "E-CONF-C04", "group.moderators"),
    # events
    ("tasks.memory.ignore", ["rest", "rest"], "E-CONF-C02", "tasks.memory.ignore"),
    ("tasks.memory.ignore", ["sad"], "E-CONF-C02", "ignore names 'sad'"),
    ("tasks.memory.column", "onset", "E-CONF-C02", "tasks.memory.column is 'onset'"),
    (CONDITIONS, DEMO["tasks"]["memory"]["conditions"] | {"n/a": "rest"}, "E-CONF-C02", "'n/a'"),
    ("tasks", {}, "E-CONF-C02", "tasks"),
    ("bids", "", "E-CONF-C02", "bids"),
    ("name", "  ", "E-CONF-C02", "name"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "code", "says"), SENSELESS)
def test_a_senseless_value_stops_with_one_line_that_names_the_key(key, value, code, says):
    [line] = refusal(edited((key, value)))
    assert line.startswith(f"{code} "), line
    assert says in line
    assert "Fix: " in line
    assert "\n" not in line


def test_one_visit_has_no_baseline_to_adjust_for():
    one = ("sessions", DEMO["sessions"][:1]), ("group.primary.session", "1")
    [line] = refusal(edited(*one))
    assert "group.primary.estimand is 'difference_adjusted', which needs a visit before" in line
    asked = "difference_unadjusted"
    sound = edited(*one, ("group.estimands", [asked]), ("group.primary.estimand", asked))
    assert parse_config(sound).group


def test_conditions_of_many_events_may_end_in_numbers():
    """`nback_2` beside `nback` is no event of it where a condition has one regressor."""
    assert Task(conditions={"a": "nback", "b": "nback_2"}, events="condition")


def test_labels_are_read_as_they_are_written(tmp_path):
    """YAML 1.1 reads 01 as 1, yes as true and 1:30 as 90."""
    text = TEXT.replace('id: "1"', "id: 01").replace('id: "2"', "id: 02").replace('id: "3"', "id: 03")
    text = text.replace('id: "4"', "id: 04").replace('session: "2"', "session: 02")
    text = text.replace("{trauma: trauma, sad: sad,", "{yes: trauma, 010: sad,")
    (tmp_path / "study.yaml").write_text(text, encoding="utf-8")
    study = load_study(tmp_path / "study.yaml")
    assert [session.id for session in study.sessions] == ["01", "02", "03", "04"]
    assert list(study.tasks["memory"].conditions) == ["yes", "010", "relax"]


# Whatever is edited: refused with a line that names a key, or it can be planned.

RICH = edited(
    ("filters", {"bold": {"dir": ["AP", "PA"]}, "T1w": {"acq": "mprage", "rec": None}}),
    ("tasks.memory.ignore", ["rest"]),
    (
        "preprocessing.fmriprep",
        {"res": "2", "container": {"image": "x.sif", "fs_license": "l", "templateflow": "t"}},
    ),
    ("first_level.maps", ["trauma-neutral"]),
    ("scales.pcl5.items", [f"i{n}" for n in range(20)]),
    ("group.covariates", {"age": {"column": "age"}, "fd": {"measure": "fd.mean", "slope": "common"}}),
    ("group.moderators", ["age"]),
    ("group.exploratory", ["tsnr.amygdala"]),
    ("group.joint", {"circuit": {FIRST: "lower", "hippocampus.trauma_first-neutral_first": "either"}}),
    ("group.pooled", {"all": DEMO["group"]["outcomes"][:6]}),
    ("group.rope", {"PCL-5 points": 5}),
    ("group.priors", {"effect": 1, "flat": False}),
    ("group.sampling", {"draws": 500, "min_ess": 300}),
)


def places(part, path=()):
    """Every key of the demo's study file, however deep."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


ODD = [
    *(
        "",
        " ",
        "../x",
        "a b",
        "é",
        "n/a",
        "constant",
        "csf",
        "drift_1",
        "run",
        "scr",
        "trauma",
        "trauma_first",
    ),
    *("trauma_1", "trauma_21", "amygdala", "vmpfc", "pcl5.total", FIRST, "1", "01", "ar3", "none", "yes"),
    *({}, [], {"trauma": 0}, {"a": 1, "A": 2}, ["trauma", "trauma"], [1, 0], [[]], 10**400, -1, 0, 1e308),
]
VALUES = st.one_of(
    st.sampled_from(ODD), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)
)
EDITS = st.tuples(
    st.sampled_from(list(places(RICH))), st.sampled_from(["set", "delete", "twice", "beside"]), VALUES
)


def change(raw, edit):
    """Set, delete or double the value at a place, or give it a second key."""
    (*path, last), how, value = edit
    place = raw
    for part in path:
        place = place[part] if isinstance(place, dict | list) and has(place, part) else {}
    if not (isinstance(place, dict | list) and has(place, last)):
        return  # an earlier edit took it
    if how == "delete":
        del place[last]
    elif how == "twice" and isinstance(place, list):
        place.append(copy.deepcopy(place[last]))
    elif how == "beside" and isinstance(place, dict):
        place[value if isinstance(value, str) else "x"] = copy.deepcopy(place[last])
    else:
        place[last] = value


def has(place, key):
    return key in place if isinstance(place, dict) else isinstance(key, int) and key < len(place)


def plan(study):
    """What the workflow computes from a study file before any job, and what every run is modelled with."""
    units = study.outcome_units()
    for part in (
        "preprocessing",
        "rois",
        "first_level",
        "connectivity",
        "skin_conductance",
        "quality",
        "group",
    ):
        if section := getattr(study, part):
            assert type(section).from_params(json.loads(section.model_dump_json())) == section
    if study.group:
        assert set(study.group.modelled) <= set(units)
        assert study.trial.baseline
    if study.first_level is None:
        return
    names = list(study.first_level.contrasts)
    run = {"sub": "01", "datatype": "func", "suffix": "statmap", "ext": ".nii.gz"}
    files = [bids_path("maps", contrast=contrast_label(name), **run) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    task = study.tasks[study.first_level.task]
    kinds = [kind for _ in range(20) for kind in task.conditions]
    rows = [(20.0 * number, 8.0, kind) for number, kind in enumerate(kinds, start=1)]
    events, seconds = pd.DataFrame(rows, columns=list(COLUMNS)), 20.0 * (len(rows) + 3)
    assert len(name_events(events, task, duration=seconds)) == len(rows)
    columns = script_regressors(
        events, tr=5.0, n_volumes=int(seconds / 5), task=task, hrf=study.first_level.hrf
    ).columns
    assert columns.is_unique
    assert not any(map(nuisance.is_column, columns))
    for weights in study.first_level.contrasts.values():
        assert contrast_weights(weights, list(columns), task).any()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(EDITS, min_size=1, max_size=2))
def test_an_edited_study_file_is_refused_with_its_key_or_can_be_planned(edits):
    raw = copy.deepcopy(RICH)
    for edit in edits:
        change(raw, edit)
    try:
        study = parse_config(raw)
    except ValueError as error:
        for line in str(error).splitlines():
            found = re.match(r"E-CONF-[CF]\d\d (\w+)", line)
            assert (found and found[1] in Study.model_fields) or ": unknown key" in line, line
            assert "Fix: " in line, line
    else:
        plan(study)


def test_an_edited_study_file_that_is_accepted_can_be_planned_by_the_workflow(tmp_path):
    """A real dry run: other names, conditions with one regressor, maps of every contrast, one visit less."""
    study = plan_study(tmp_path / "study", participants=1, sessions=2)
    contrasts = {"c1": {"c_constant": 1}, "All-2": {"c_constant": 1, "nback_2": -0.5}}
    raw = edited(
        ("sessions", DEMO["sessions"][:2]),
        ("tasks.memory", {"events": "condition", "conditions": {"x": "c_constant", "010": "nback_2"}}),
        (CONTRASTS, contrasts),
        ("first_level.maps", list(contrasts)),
        ("first_level.script_contrasts", {}),
        ("first_level.hrf", "spm + derivative"),
        ("connectivity.conditions", ["run"]),
        ("connectivity.contrasts", contrasts),
        ("group.twins", {}),
        ("skin_conductance.conditions", ["nback_2"]),
        ("group", "none"),
    )
    (study / "config/config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    text = snakemake(study, "--dry-run").stdout
    assert "contrast-All2_stat-effect" in text
    assert "contrast-C1_stat-effect" in text
