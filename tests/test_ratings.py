"""Ratings become decisions with rule, name, date and reason, which count; no edit of them goes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from tests.test_conduct import SIGNED, ask, study_folder

from reconfmri.bids import write_run_table
from reconfmri.checks import check_decision_tables
from reconfmri.cli import main
from reconfmri.cli.status import left_out
from reconfmri.config import Quality, load_study
from reconfmri.contents import seal_of
from reconfmri.contracts.ratings import FORMAT, PAGE, RATINGS, pictures_now
from reconfmri.decisions import RATED, check_decisions, keep_decisions, read_decisions
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.report.cockpit import compose_cockpit
from reconfmri.report.conduct import conduct
from reconfmri.report.participants import ScanRecord, Shared, address
from reconfmri.tables import read_table
from reconfmri.trial.lock import stamp_of
from reconfmri.trial.log import read_log
from reconfmri.trial.ratings import ADJUDICATION, Rater, Rating, agreement, check_decided

SCANS = [(f"sub-{n:02d}", session, "memory", "n/a") for n in (1, 2, 3) for session in ("1", "2")]
MOVED = SCANS[5]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A study of six scans, of which a threshold took out the last one."""
    folder = study_folder(tmp_path)
    rows = [
        dict(zip(("participant_id", "session_id", "task", "run"), scan, strict=True))
        | {"bold": f"{scan[0]}_{scan[1]}.nii.gz", "t1w": "t.nii.gz", "events": "n/a", "physio": "n/a"}
        | {"tr": 2.0, "n_volumes": 100}
        | {f"{name}_sha256": "n/a" for name in ("bold", "t1w", "events", "physio")}
        for scan in SCANS
    ]
    write_run_table(folder / "config/runs.tsv", pd.DataFrame(rows))
    write_exclusions(folder / "config/exclusions.tsv", [])
    (folder / "results").mkdir()
    out = [
        Exclusion(*MOVED, stage="assess_quality", code="E-DATA-B12", reason="E-DATA-B12 moved"),
        Exclusion(*SCANS[0], stage="score_skin_conductance", code="E-DATA-B15", reason="flat"),
        Exclusion(*SCANS[1], stage="assess_quality", code="W-DATA-B40", reason="a remark"),
    ]
    write_exclusions(folder / "results/exclusions.tsv", out)
    show(folder)
    return folder


def show(folder: Path, content: str = "slices") -> None:
    """Make the rating page of the scans, a picture each."""
    page = folder / PAGE
    page.parent.mkdir(exist_ok=True)
    records = []
    for n, scan in enumerate(SCANS):
        picture = page.parent / f"scan {n}.png"
        picture.write_text(f"{content} {n}" if n == 1 else str(n), encoding="utf-8")
        key = dict(zip(("participant_id", "session_id", "task", "run"), scan, strict=True))
        shown = {"outlines": address(picture, page)}
        records.append(ScanRecord(key=key, tr=2.0, n_volumes=100, measures={}, pictures=shown))
    study = load_study(folder / "config/config.yaml").name
    shared = Shared([], {}, Quality())
    page.write_text(compose_cockpit(study, records, shared, page), encoding="utf-8")


def file_of(folder: Path, rater: str, said: list[str], **more) -> str:
    """A file as the page saves it: the ratings of the scans in their order."""
    shown = pictures_now(folder / PAGE)
    rows = [
        dict(zip(("participant_id", "session_id", "task", "run"), scan, strict=True))
        | {
            "rating": rating,
            "artifacts": ["head-motion"] if rating == "exclude" else [],
            "notes": f"by\t{rater}",
        }
        | {"time": f"2026-01-0{number + 1}T08:00:00.000Z", "pictures": shown.get(scan, "")}
        for number, (scan, rating) in enumerate(zip(SCANS, said, strict=False))
    ]
    found = {"format": FORMAT, "study": load_study(folder / "config/config.yaml").name, "rater": rater}
    path = folder / f"ratings_{rater}.json"
    path.write_text(json.dumps(found | {"ratings": rows} | more), encoding="utf-8")
    return str(path)


def decide(folder: Path, *files: str) -> int:
    return main(["decide", *files, "--study", str(folder), *SIGNED])


def decided(folder: Path) -> list[tuple[str, str, str]]:
    table = read_table(folder / RATED)
    return [tuple(row) for row in table[["decision", "rule", "who"]].to_numpy()]


def test_one_rater_and_the_thresholds_decide_on_every_scan(folder):
    assert decide(folder, file_of(folder, "Ada", ["keep", "exclude", "keep", "keep", "keep"])) == 0
    keep, out = ("keep", "one rater", "Ada"), ("exclude", "one rater", "Ada")
    assert decided(folder) == [keep, out, keep, keep, keep, ("exclude", "threshold", "automatic")]
    table = read_table(folder / RATED)
    assert table.loc[1, ["when", "reason"]].tolist() == ["2026-01-02T08:00:00", "head-motion; by Ada"]
    assert table.loc[5, "reason"] == "E-DATA-B12 moved"
    (row,) = read_decisions(folder)
    assert (row.unit, row.code, row.decided_by, row.stage) == (SCANS[1], "E-DATA-Q01", "Ada", "decide")
    (line,) = left_out(folder)
    assert line.startswith(
        "excluded sub-01 2 memory (Ada): E-DATA-Q01 one rater, 2026-01-02T08:00:00: head-motion"
    )
    scans = read_table(folder / "config/runs.tsv").fillna("n/a")
    assert len(keep_decisions(scans, read_decisions(folder))) == len(SCANS) - 1
    check_decided(folder)


def test_a_rating_of_pictures_that_changed_since_decides_nothing(folder, capsys):
    """One byte of one picture; the threshold's scan is not rated and does not matter."""
    said = ["keep"] * 5
    rated = file_of(folder, "Ada", said)
    show(folder, "other slices")
    assert decide(folder, rated) == 1
    told = capsys.readouterr().err
    assert "E-CONF-D08 Ada: 1 scans were rated on other pictures than those of now, sub-01 2 memory" in told
    assert not (folder / RATED).exists()
    rated = file_of(folder, "Ada", said)
    assert decide(folder, rated) == 0
    (folder / PAGE).unlink()
    assert decide(folder, rated) == 1
    assert "is not there, so nothing shows what was rated" in capsys.readouterr().err


def test_two_raters_agree_or_somebody_decides(folder, capsys):
    files = [
        file_of(folder, "Ada", ["keep", "exclude", "keep", "unsure", "keep"]),
        file_of(folder, "Ben", ["keep", "exclude", "exclude", "unsure", "keep"]),
    ]
    assert decide(folder, *files) == 1
    assert "80 % of 5 scans alike" in (said := capsys.readouterr().out)
    assert f"2 scans wait for a decision. Fix: fill in decision, by and reason in {ADJUDICATION}" in said
    assert not (folder / RATED).exists()
    assert not read_log(folder)
    path = folder / ADJUDICATION
    table = read_table(path)
    assert table["ratings"][0] == "Ada: keep; by Ada | Ben: exclude; head-motion; by Ben"
    lines = path.read_text(encoding="utf-8").splitlines()
    half = lines[1].replace("\tn/a\tn/a\tn/a", "\tkeep\tn/a\tn/a", 1) if lines[1].endswith("n/a") else ""
    path.write_text("\n".join([lines[0], half, lines[2]]) + "\n", encoding="utf-8")
    assert decide(folder, *files) == 1
    assert f"E-CONF-D08 {ADJUDICATION}: line 2" in capsys.readouterr().err
    filled = [line.removesuffix("n/a\tn/a\tn/a") for line in lines]
    done = [lines[0], f"{filled[1]}exclude\tCleo\tsaw both", f"{filled[2]}keep\tCleo\tfine"]
    path.write_text("\n".join(done) + "\n", encoding="utf-8")
    assert decide(folder, *files) == 0
    assert decided(folder)[2:4] == [("exclude", "adjudicated", "Cleo"), ("keep", "adjudicated", "Cleo")]
    assert decided(folder)[1] == ("exclude", "two raters", "Ada and Ben")
    assert {row.unit for row in read_decisions(folder)} == {SCANS[1], SCANS[2]}
    (entry,) = read_log(folder)
    assert entry.event == "decide"
    assert {"sha256", "ratings of Ada", "ratings of Ben", "agreement"} == set(entry.facts)
    study = load_study(folder / "config/config.yaml")
    assert conduct(study.group, stamp_of(folder, study))["ratings"] == entry.facts["agreement"]


@pytest.mark.parametrize(
    ("said", "more", "told"),
    [
        (["keep"] * 4, {}, "1 scans are not rated, sub-03 1 memory n/a"),
        (["keep"] * 5, {"study": "another"}, "it is of the study 'another'"),
        (["keep"] * 5, {"format": "x"}, "in the format 'x'"),
        (["splendid"] * 5, {}, "it is no file of ratings ('splendid' with [])"),
        (["keep"] * 5, {"ratings": [{}]}, "it is no file of ratings ('rating')"),
    ],
)
def test_ratings_that_cannot_count_stop_with_their_reason(folder, said, more, told, capsys):
    assert decide(folder, file_of(folder, "Ada", said, **more)) == 1
    line = capsys.readouterr().err
    assert line.startswith("E-CONF-D08 ")
    assert told in line
    assert "Fix: " in line
    assert not (folder / RATED).exists()


def test_a_rater_counts_once_and_before_the_thresholds_nothing_does(folder, capsys):
    file = file_of(folder, "Ada", ["keep"] * 5)
    assert decide(folder, file, file_of(folder, "ada", ["keep"] * 5)) == 1
    assert "2 files of ratings, by 1 people" in capsys.readouterr().err
    (folder / "results/exclusions.tsv").unlink()
    assert decide(folder, file) == 1
    assert "run the workflow first" in capsys.readouterr().err


def test_a_decision_changed_by_hand_stops_the_workflow(folder):
    decide(folder, file_of(folder, "Ada", ["keep", "exclude", "keep", "keep", "keep"]))
    path = folder / RATED
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace("exclude\tone", "keep\tone"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"E-CONF-D08 .*not as `reconfmri decide` noted it"):
        check_decided(folder)
    (problem,) = check_decision_tables(folder, load_study(folder / "config/config.yaml"))
    assert (problem.severity, problem.code, problem.file) == ("STOP", "E-CONF-D08", RATED)
    path.unlink()
    with pytest.raises(ValueError, match="E-CONF-D08"):
        check_decided(folder)
    path.write_text(before.replace("sub-01\t2", "sub-09\t2"), encoding="utf-8")
    scans = read_table(folder / "config/runs.tsv").fillna("n/a")
    with pytest.raises(ValueError, match=r"E-CONF-D08 .*sub-09 2 memory n/a is no scan of the run table"):
        check_decisions(folder, load_study(folder / "config/config.yaml"), scans)
    path.write_text(before.replace("exclude\tone rater", "exclude\tmagic"), encoding="utf-8")
    with pytest.raises(ValueError, match="is no decision"):
        read_decisions(folder)


def test_decisions_are_locked_and_sealed(folder):
    study = load_study(folder / "config/config.yaml")
    ask(folder, "blind")
    sealed = seal_of(folder, study).name
    decide(folder, file_of(folder, "Ada", ["keep"] * 5))
    assert seal_of(folder, study).name != sealed
    assert ask(folder, "lock") == 0
    assert stamp_of(folder, study).word == "pre-specified"
    decide(folder, file_of(folder, "Ada", ["exclude"] + ["keep"] * 4))
    assert ask(folder, "unblind") == 1, "the decisions differ from the lock"
    stamp = stamp_of(folder, study)
    assert (stamp.word, [change.key for change in stamp.changes]) == (
        "changed before unblinding",
        ["decisions"],
    )
    assert [entry.event for entry in read_log(folder)] == ["blind", "decide", "lock", "decide"]


def test_kappa_is_that_of_another_implementation():
    random = np.random.default_rng(2)
    words = list(RATINGS)
    one = random.choice(words, 60)
    other = np.where(random.random(60) < 0.7, one, random.choice(words, 60))
    raters = [
        Rater(name, {(f"sub-{n}",): Rating(str(word)) for n, word in enumerate(said)}, "")
        for name, said in (("a", one), ("b", other))
    ]
    found = agreement(*raters)
    assert found.kappa == pytest.approx(cohen_kappa_score(one, other))
    assert found.share == pytest.approx((one == other).mean())
    assert found.lower < found.kappa < found.upper
    same = [Rater(name, {(str(n),): Rating("keep") for n in range(4)}, "") for name in "ab"]
    assert agreement(*same).words == "100 % of 4 scans alike, kappa not defined (one rating only)"
