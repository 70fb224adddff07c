"""The study file: typos, types, units, duplicates and contradictions get one line each, with the fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from reconfmri.config import FirstLevel, Study, condition_names, load_study, parse_config

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "config/config.yaml"


def refusal(tmp_path, old, new):
    """The lines with which the demo's study file is refused after one edit."""
    text = DEMO.read_text()
    assert old in text
    path = tmp_path / "config.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError) as error:
        load_study(path)
    lines = str(error.value).splitlines()
    assert all(line.split(" ")[1] == f"{path}:" for line in lines)
    return [line.replace(f" {path}", "") for line in lines]


@pytest.mark.parametrize(
    "path", [DEMO, *sorted((ROOT / "config/trials").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_shipped_study_files_are_sound(path):
    assert load_study(path).name


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        ("quality:", "qualty:", "E-CONF-C01", "qualty: unknown key. Fix: did you mean 'quality'?"),
        ("  high_pass:", "  high_pas:", "E-CONF-C01", "first_level.high_pas"),
        ("  high_pass:", "  xyzzy:", "E-CONF-C01", "Fix: delete it"),
        ("resolution: 3.0", "resolution: 30", "E-CONF-C02", "(at least 1, at most 4), e.g. 2.0"),
        ("resolution: 3.0", "resolution: 3 mm", "E-CONF-C02", "got '3 mm'"),
        ("resolution: 3.0", "resolution: .nan", "E-CONF-C02", "resolution"),
        ("high_pass: 0.008", "high_pass: 125", "E-CONF-C02", "at most 0.1"),
        ("active: ketamine", "active: no", "E-CONF-C02", 'put the label in quotes, "yes"'),
        ('id: "1"', "id: 1", "E-CONF-C02", 'put it in quotes, "1"'),
        ('id: "1"', 'id: "1; rm"', "E-CONF-C02", "sessions.0.id"),
        ('id: "1"', 'id: "../1"', "E-CONF-C02", "sessions.0.id"),
        ("engine: embedded", "engine: fsl", "E-CONF-C02", "'embedded'"),
        ("level: 0.95", "level: 95", "E-CONF-C02", "(above 0.5, below 1), e.g. 0.95"),
        ("control: midazolam", "control: ketamine", "E-CONF-C02", "both 'ketamine'"),
        ("  hrf: glover\n", "  hrf: glover\n  hrf: spm\n", "E-CONF-C03", "'hrf' is on lines"),
        ("{trauma: 1, neutral: -1}", "{traumma: 1, neutral: -1}", "E-CONF-C04", "did you mean 'trauma'?"),
        ("  task: memory\n  hrf", "  task: rest\n  hrf", "E-CONF-C04", "known are ['memory']"),
        ("[amygdala_left, amygdala_right]", "[amygdala, right]", "E-CONF-C04", "rois.combined.amygdala"),
        ("[[amygdala, hippocampus]", "[[amygdla, hippocampus]", "E-CONF-C04", "connectivity.pairs"),
        ("    - pcl5.total", "    - pcl.total", "E-CONF-C04", "did you mean 'pcl5.total'?"),
        ('session: "2"', 'session: "9"', "E-CONF-C04", "group.primary.session"),
        ("seed: 1", "seed: 1\n__use_yte__: true", "E-CONF-F06", "refused"),
        ("bids: bids", "bids: [", "E-CONF-C02", "not valid YAML"),
        ("    trauma-neutral:", '    "../x":', "E-CONF-C02", "first_level.contrasts"),
        ("    trauma-neutral:", '    "/etc/x":', "E-CONF-C02", "first_level.contrasts"),
        ("    trauma-neutral:", '    "a b":', "E-CONF-C02", "first_level.contrasts"),
        (
            "    trauma-neutral: {trauma: 1, neutral: -1}",
            "    trauma-neutral: {trauma: 1, neutral: -1}\n    trauma_neutral: {trauma: 1, neutral: -1}",
            "E-CONF-C12",
            "'trauma-neutral' and 'trauma_neutral' are one label in file names",
        ),
        ("tasks:", "filters: {T1w: {acquisition: mprage}}\ntasks:", "E-CONF-C04", "filters.T1w"),
        ("tasks:", "filters: {T2w: {acq: x}}\ntasks:", "E-CONF-C01", "filters.T2w"),
        ("tasks:", "filters: {bold: {echo: 2}}\ntasks:", "E-CONF-C02", "got 2. Fix: a label in quotes"),
    ],
)
def test_a_fault_gives_one_line_with_code_key_and_fix(tmp_path, old, new, code, says):
    lines = refusal(tmp_path, old, new)
    assert len(lines) == 1
    assert lines[0].startswith(code)
    assert says in lines[0]


def test_every_fault_is_told_at_once(tmp_path):
    lines = refusal(tmp_path, "resolution: 3.0", "resolution: 30\n  acompcor: many\n  smothing: 1")
    assert len(lines) == 3


def test_duplicates_name_both_lines(tmp_path):
    number = DEMO.read_text().splitlines().index("  hrf: glover") + 1
    lines = refusal(tmp_path, "  hrf: glover\n", "  hrf: glover\n  hrf: spm\n")
    assert f"lines {number} and {number + 1}" in lines[0]


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="E-CONF-C02"):
        load_study(tmp_path / "config.yaml")


def test_no_file_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(ValueError, match="reconfmri init"):
        load_study(tmp_path / "config.yaml")


def test_python_objects_in_yaml_are_refused(tmp_path):
    (tmp_path / "config.yaml").write_text('name: !!python/object/apply:os.system ["true"]\n')
    with pytest.raises(ValueError, match="not valid YAML"):
        load_study(tmp_path / "config.yaml")


def test_a_section_survives_the_params_of_a_rule():
    section = load_study(DEMO).first_level
    assert FirstLevel.from_params(json.loads(json.dumps(section.model_dump(mode="json")))) == section


def test_group_none_is_a_study_without_arms():
    raw = yaml.safe_load(DEMO.read_text()) | {"group": "none"}
    assert parse_config(raw).group is None


def test_nothing_changes_after_the_door():
    study = load_study(DEMO)
    with pytest.raises(ValueError, match="frozen"):
        study.seed = 2


def test_a_script_gets_names_by_position_a_condition_does_not():
    tasks = load_study(DEMO).tasks
    assert {"trauma", "trauma_first", "neutral_3"} <= set(condition_names(tasks["memory"]))
    short = tasks["memory"].model_copy(update={"events": "condition"})
    assert condition_names(short) == ["trauma", "sad", "neutral"]


def test_every_outcome_has_a_unit():
    study = load_study(DEMO)
    units = study.outcome_units()
    assert units["amygdala.trauma_first-neutral_first"] == "percent signal change"
    assert units["amygdala-hippocampus.trauma"] == "Fisher z"
    assert set(study.group.outcomes) <= set(units)


def test_every_setting_is_described():
    schema = Study.model_json_schema()
    parts = {"study": schema, **schema["$defs"]}
    bare = {
        f"{part}.{name}"
        for part, section in parts.items()
        for name, field in section.get("properties", {}).items()
        if "description" not in field and "$ref" not in json.dumps(field)
    }
    assert not bare
