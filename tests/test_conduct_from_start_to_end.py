"""A trial from blinding to the final report, of tables alone: rated in a browser, decided, locked, unblinded.

The same with images and through the workflow is in tests/workflow/test_end_to_end.py, up to the estimates.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.browser import rate_by_keyboard
from tests.pages import Page
from tests.tables_study import ARMS, MOVED, tables_study
from tests.test_registered_report import answered_by_reml

from reconfmri.cli import main
from reconfmri.config import Quality, load_study
from reconfmri.contracts import questions
from reconfmri.contracts.ratings import PAGE
from reconfmri.decisions import read_decisions
from reconfmri.exclusions import UNIT, Exclusion, write_exclusions
from reconfmri.group import Asked
from reconfmri.measures import DESCRIPTIONS, read_measures
from reconfmri.report import ReportFiles, compose, gather
from reconfmri.report.cockpit import compose_cockpit
from reconfmri.report.participants import ScanRecord, Shared, address
from reconfmri.tables import read_table, write_table
from reconfmri.trial.allocation import read_allocation
from reconfmri.trial.codes import as_seen, by_code, codes_file, is_coded
from reconfmri.trial.log import LOG

SIGNED = ("--by", "A. Statistician", "--reason", "as the protocol says")
SEEN_BAD = "sub-04 ses-2 task-memory"


def ask(folder: Path, command: str, *more: str) -> int:
    signed = () if command == "verify-log" else SIGNED
    return main([command, *more, "--study", str(folder), *signed])


def show_scans(folder: Path) -> None:
    """Write the rating page with a picture per scan, as the workflow does before anybody decides."""
    page = folder / PAGE
    page.parent.mkdir(parents=True)
    records = []
    for place, row in enumerate(
        read_table(folder / "config/runs.tsv")[[*UNIT]].fillna("n/a").to_dict("records")
    ):
        picture = page.parent / f"{place}.png"
        picture.write_bytes(bytes([place]))
        shown = {"outlines": address(picture, page)}
        records.append(ScanRecord(key=row, tr=2.0, n_volumes=120, measures={}, pictures=shown))
    study = load_study(folder / "config/config.yaml").name
    page.write_text(compose_cockpit(study, records, Shared([MOVED], {}, Quality()), page), encoding="utf-8")


def analyse(folder: Path) -> str:
    """What the group rules do with the measures that decisions leave, and the report; returned as HTML."""
    out = read_decisions(folder)
    write_exclusions(folder / "results/exclusions.tsv", [MOVED, *out])
    rows = read_measures(folder / "results/measures.tsv")
    scans = [
        Exclusion(*key, "memory") for key in zip(rows["participant_id"], rows["session_id"], strict=True)
    ]
    gone = [any(item.takes_out(scan) for item in out) for scan in scans]
    rows = rows[[domain == "clinical" or not lost for domain, lost in zip(rows["domain"], gone, strict=True)]]
    write_table(folder / "results/measures.tsv", rows[list(DESCRIPTIONS)], DESCRIPTIONS)
    study = as_seen(load_study(folder / "config/config.yaml"), folder)
    arms = read_allocation(folder / "allocation.tsv")
    codes = codes_file(folder / "allocation.tsv") if is_coded(study.group) else None
    asked = Asked(rows, by_code(arms, codes) if codes else arms, study.group, [s.id for s in study.sessions])
    (made,) = answered_by_reml(asked)
    path = folder / questions.path_of(made.name)
    made.spec.write(path, made.rows)
    places = {name: folder / f"results/{name}.tsv" for name in ("measures", "exclusions")}
    files = ReportFiles(
        config=folder / "config/config.yaml",
        runs=folder / "config/runs.tsv",
        allocation=folder / "allocation.tsv",
        codes=codes,
        tables=(path,),
        **places,
    )
    html = compose(gather(files))
    (folder / "results/report.html").write_text(html, encoding="utf-8")
    return html


@pytest.fixture(scope="module")
def conducted(tmp_path_factory):
    """The study folder, and its report before and after unblinding."""
    folder = tables_study(tmp_path_factory.mktemp("trial"))
    show_scans(folder)
    assert ask(folder, "blind") == 0
    rated = rate_by_keyboard(folder, out=SEEN_BAD)
    assert ask(folder, "decide", str(rated)) == 0
    blinded = analyse(folder)
    shutil.copyfile(folder / "results/estimates.tsv", folder / "results/coded.tsv")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        named = path.relative_to(folder).as_posix() in (
            "config/config.yaml", "allocation.tsv", "allocation.codes.json",
        )  # fmt: skip
        held = path.read_bytes().decode("utf-8", "replace")
        assert named or not [arm for arm in ARMS.values() if arm in held or arm in path.name], path
    assert ask(folder, "unblind") == 1, "there is no lock"
    assert ask(folder, "lock") == 0
    assert ask(folder, "unblind") == 0
    return folder, blinded, analyse(folder)


def test_the_blinded_report_compares_a_with_b_without_the_scan_that_was_rated_out(conducted):
    folder, blinded, _ = conducted
    words = Page(blinded).words
    assert "Blinded: the arms are A and B" in words
    assert "Not locked" in words
    assert "A minus B" in words
    assert "E-DATA-Q01" in words
    left = read_measures(folder / "results/measures.tsv")
    mine = left[(left["participant_id"] == "sub-04") & (left["session_id"] == "2")]
    assert set(mine["domain"]) == {"clinical"}


def test_the_final_report_names_the_arms_and_is_as_locked(conducted):
    """The same differences, or all with the other sign, as the codes were drawn."""
    folder, _, final = conducted
    words = Page(final).words
    assert "Pre-specified" in words
    assert "quokka minus numbat" in words
    assert "Blinded" not in words
    assert "unblind A. Statistician" in words.replace("unblindA", "unblind A")
    estimates = [
        read_table(folder / f"results/{name}.tsv", numeric=("estimate",)) for name in ("coded", "estimates")
    ]
    sizes = [table["estimate"].abs().dropna().to_numpy() for table in estimates]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-6)


def test_a_changed_byte_of_the_log_is_found_and_the_report_is_refused(conducted):
    folder, *_ = conducted
    assert ask(folder, "verify-log") == 0
    path = folder / LOG
    whole = path.read_bytes()
    try:
        place = whole.index(b"as the protocol")
        path.write_bytes(whole[:place] + b"A" + whole[place + 1 :])
        assert ask(folder, "verify-log") == 1
        with pytest.raises(ValueError, match="E-CONF-F13"):
            analyse(folder)
    finally:
        path.write_bytes(whole)
