"""Arms by code, the lock, unblinding, and a log that shows every change made to it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tests.test_report import CONFIG

from reconfmri.checks import check_allocation
from reconfmri.cli import main
from reconfmri.config import load_study
from reconfmri.report.conduct import conduct
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import ACTIVE, as_seen, by_code, codes_file, draw_codes, group_by_code
from reconfmri.trial.lock import stamp_of, stamps
from reconfmri.trial.log import LOG, note, read_log

ARMS = {"quokka": 3, "numbat": 2, "third": 1}
SIGNED = ("--by", "A. Statistician", "--reason", "as the protocol says")


def study_folder(tmp_path: Path, blinding: str = "coded") -> Path:
    """A study folder with index, decisions and an allocation, none of its data."""
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    settings["group"] |= {"arms": {"active": "quokka", "control": "numbat"}, "blinding": blinding}
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (tmp_path / "config/runs.tsv").write_text("participant_id\nsub-01\n", encoding="utf-8")
    (tmp_path / "config/exclusions.tsv").write_text("participant_id\n", encoding="utf-8")
    arms = [arm for arm, n in ARMS.items() for _ in range(n)]
    rows = [f"sub-{place:02d}\t{arm}" for place, arm in enumerate(arms, start=1)]
    (tmp_path / "allocation.tsv").write_text("\n".join(["participant_id\tarm", *rows, ""]), encoding="utf-8")
    return tmp_path


def edit(folder: Path, before: str, after: str) -> None:
    path = folder / "config/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def ask(folder: Path, command: str, *more: str) -> int:
    signed = SIGNED if command != "verify-log" and not more else more
    return main([command, "--study", str(folder), *signed])


def word(folder: Path) -> str:
    return stamp_of(folder, load_study(folder / "config/config.yaml")).word


def test_either_arm_may_be_a_and_the_people_of_an_arm_stay_together(tmp_path):
    folder = study_folder(tmp_path)
    allocation = read_allocation(folder / "allocation.tsv")
    drawn = set()
    for _ in range(40):
        path = draw_codes(folder / "allocation.tsv", sorted(ARMS), ("quokka", "numbat"))
        assert path.stat().st_mode & 0o077 == 0
        coded = by_code(allocation, path)
        pairs = set(zip(allocation["arm"], coded["arm"], strict=True))
        assert len(pairs) == 3
        assert ("third", "C") in pairs
        drawn.add(dict(pairs)["quokka"])
        path.unlink()
    assert drawn == {"A", "B"}, "40 draws of one half: by chance once in 5e11"


def test_codes_are_drawn_once(tmp_path, capsys):
    folder = study_folder(tmp_path)
    assert ask(folder, "blind") == 0
    before = codes_file(folder / "allocation.tsv").read_bytes()
    assert ask(folder, "blind") == 1
    assert "E-CONF-F13" in capsys.readouterr().err
    assert codes_file(folder / "allocation.tsv").read_bytes() == before


def test_a_blinded_study_has_no_arm_by_name(tmp_path):
    folder = study_folder(tmp_path)
    study = load_study(folder / "config/config.yaml")
    seen = as_seen(study, folder)
    assert (seen.group.arms.active, seen.group.arms.control) == ("A", "B")
    assert "quokka" not in seen.model_dump_json()
    assert group_by_code(study.group).arms.active == ACTIVE
    assert conduct(seen.group, stamp_of(folder, study))["blinded"].startswith("Blinded")


def test_three_arms_by_code_are_compared_pair_by_pair_so_that_none_is_the_control(tmp_path):
    folder = study_folder(tmp_path)
    group = load_study(folder / "config/config.yaml").group
    arms = {
        "active": ["quokka", "third"],
        "control": "numbat",
        "doses": {"quokka": 1, "third": 2, "numbat": 0},
    }
    primary = group.primary.model_dump() | {"comparison": ["third", "numbat"]}
    settings = group.model_dump(mode="json") | {"arms": arms, "primary": primary, "joint": {}, "pooled": {}}
    several = type(group).from_params(settings | {"bounded": {}, "voxels": None, "moderators": []})
    seen = group_by_code(several)
    assert [one.name for one in seen.arms.every_comparison] == ["A minus C", "B minus C", "A minus B"]
    assert seen.primary.compared in {one.name for one in seen.arms.every_comparison}
    assert not any(name in seen.model_dump_json() for name in ("quokka", "numbat", "third"))
    assert "A, B and C" in conduct(seen.model_copy(update={"blinding": "coded"}))["blinded"]
    allocation = read_allocation(folder / "allocation.tsv")
    letters = set()
    for _ in range(40):
        path = draw_codes(folder / "allocation.tsv", sorted(set(allocation["arm"])), several.arms.shown)
        coded = by_code(allocation, path)
        letters.add(dict(zip(allocation["arm"], coded["arm"], strict=True))["numbat"])
        path.unlink()
    assert letters == {"A", "B", "C"}, "40 draws of a third each: one missing by chance once in 4e6"


def test_a_study_without_codes_is_stopped_before_any_compute(tmp_path):
    folder = study_folder(tmp_path)
    study, table = (
        load_study(folder / "config/config.yaml"),
        pd.DataFrame({"participant_id": ["sub-01", "sub-05"]}),
    )
    _, (problem,) = check_allocation(folder, study, table)
    assert (problem.severity, problem.code) == ("STOP", "E-CONF-F13")
    assert "reconfmri blind" in problem.fix
    ask(folder, "blind")
    assert not [item for item in check_allocation(folder, study, table)[1] if item.severity == "STOP"]


def test_an_arm_without_a_code_is_counted_and_never_named(tmp_path):
    folder = study_folder(tmp_path)
    ask(folder, "blind")
    allocation = read_allocation(folder / "allocation.tsv").replace({"arm": {"third": "wombat"}})
    with pytest.raises(ValueError, match="1 of the allocated people") as fault:
        by_code(allocation, codes_file(folder / "allocation.tsv"))
    assert "wombat" not in str(fault.value)


def test_nobody_unblinds_without_a_lock_that_holds(tmp_path, capsys):
    folder = study_folder(tmp_path)
    ask(folder, "blind")
    assert ask(folder, "unblind") == 1
    assert "there is no lock" in capsys.readouterr().err
    assert ask(folder, "lock") == 0
    (folder / "config/exclusions.tsv").write_text("participant_id\nsub-02\n", encoding="utf-8")
    assert ask(folder, "unblind") == 1
    assert "differs from its last lock: exclusions" in capsys.readouterr().err
    assert as_seen(load_study(folder / "config/config.yaml"), folder).group.arms.active == "A"
    assert ask(folder, "lock") == 0
    assert ask(folder, "unblind") == 0
    seen = as_seen(load_study(folder / "config/config.yaml"), folder)
    assert (seen.group.arms.active, seen.group.blinding) == ("quokka", "open")
    assert [entry.event for entry in read_log(folder)] == ["blind", "lock", "lock", "unblind"]
    assert ask(folder, "lock") == 1, "a lock made now would not be of before"
    assert ask(folder, "unblind") == 1


@pytest.mark.parametrize("missing", ["--by", "--reason"])
def test_a_name_and_a_reason_are_needed(missing, tmp_path):
    folder = study_folder(tmp_path)
    signed = dict(zip(SIGNED[::2], SIGNED[1::2], strict=True)) | {missing: "  "}
    assert ask(folder, "blind", *(part for pair in signed.items() for part in pair)) == 1
    assert not read_log(folder)


def test_the_stamp_follows_one_threshold(tmp_path):
    folder = study_folder(tmp_path)
    assert word(folder) == "not locked"
    ask(folder, "blind")
    ask(folder, "lock")
    assert word(folder) == "pre-specified"
    edit(folder, "max_mean_fd: 0.5", "max_mean_fd: 0.4")
    stamp = stamp_of(folder, load_study(folder / "config/config.yaml"))
    assert stamp.word == "changed before unblinding"
    (change,) = stamp.changes
    assert (change.key, change.before, change.now) == ("quality.max_mean_fd", "0.5", "0.4")
    ask(folder, "lock")
    ask(folder, "unblind")
    assert word(folder) == "changed before unblinding", "the second lock does not undo the change"
    edit(folder, "max_mean_fd: 0.4", "max_mean_fd: 0.5")
    assert word(folder) == "pre-specified"
    edit(folder, "max_mean_fd: 0.5", "max_mean_fd: 0.3")
    stamp = stamp_of(folder, load_study(folder / "config/config.yaml"))
    assert stamp.word == "changed after unblinding"
    assert "1 difference" in conduct(load_study(folder / "config/config.yaml").group, stamp)["stamp"]


def test_every_estimate_carries_the_stamp_and_an_exploratory_one_is_that_always():
    families = ["primary", "circuit", None, "exploratory"]
    for word in ("not locked", "pre-specified", "changed after unblinding"):
        assert stamps(families, word) == [word, word, word, "exploratory"]


def test_every_changed_byte_of_the_log_is_found(tmp_path, capsys):
    folder = study_folder(tmp_path)
    for command in ("blind", "lock", "unblind"):
        ask(folder, command)
    assert ask(folder, "verify-log") == 0
    path = folder / LOG
    whole = path.read_bytes()
    for place in range(0, len(whole), 31):
        changed = bytes([whole[place] ^ 1])
        path.write_bytes(whole[:place] + changed + whole[place + 1 :])
        assert ask(folder, "verify-log") == 1, (place, whole[place - 20 : place + 20])
    lines = whole.splitlines(keepends=True)
    for broken in (lines[1:], [lines[0], lines[2]], [lines[0], lines[2], lines[1]]):
        path.write_bytes(b"".join(broken))
        assert ask(folder, "verify-log") == 1
    path.write_bytes(whole)
    capsys.readouterr()
    assert ask(folder, "verify-log") == 0
    assert f"last hash {read_log(folder)[-1].hash}" in capsys.readouterr().out


def test_a_changed_lock_is_found(tmp_path, capsys):
    folder = study_folder(tmp_path)
    ask(folder, "blind")
    ask(folder, "lock")
    (path,) = (folder / "config/locks").iterdir()
    held = json.loads(path.read_text(encoding="utf-8"))
    held["study"]["quality"]["max_mean_fd"] = 9
    path.write_text(json.dumps(held), encoding="utf-8")
    assert ask(folder, "verify-log") == 1
    assert "changed after it was noted" in capsys.readouterr().err
    with pytest.raises(ValueError, match="E-CONF-F13"):
        stamp_of(folder, load_study(folder / "config/config.yaml"))


def test_an_open_study_draws_no_codes(tmp_path, capsys):
    folder = study_folder(tmp_path, "open")
    assert ask(folder, "blind") == 1
    assert "group.blinding: coded" in capsys.readouterr().err
    with pytest.raises(ValueError, match="without a name"):
        note(folder, "blind", "", "", {})
