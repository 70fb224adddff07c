"""One page per participant: complete when scans are missing or excluded, offline, escaped, blind."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reconfmri.config import Quality, Rois
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.preprocess import AnatomyFiles
from reconfmri.report import participants

PERSON = "sub-01"
SESSIONS = {"1": "baseline", "2": "end of treatment", "3": "30 days", "4": "90 <b>days"}
MEASURES = "participant_id\toutcome\tvalue\tunit\n" + "".join(
    f"{PERSON}\t{name}\t{value}\tmm\n" for name, value in (("fd.mean", 0.61), ("tsnr.median", 55.25))
)


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@dataclass
class Study:
    person: participants.PersonFiles
    records: list[participants.ScanRecord]
    shared: participants.Shared


@pytest.fixture
def study(tmp_path) -> Study:
    """Three scans of one person: used, excluded before alignment, used with a remark; the fourth absent."""
    made = tmp_path / "results" / "derivatives" / "sub 01"
    made.mkdir(parents=True)
    scans, files = [], {name: [] for name in ("measures", "alignments", *participants.KINDS)}
    for session in ("1", "2", "3"):
        out = session == "2"
        scans.append(
            {"participant_id": PERSON, "session_id": session, "task": "memory", "run": "n/a", "tr": "2.0",
             "n_volumes": "120"}
        )  # fmt: skip
        facts = {"head_motion": [[1.0]], "non_steady_state_volumes": 2, "signal_in_brain": 0.4321}
        for name, text in (("measures", MEASURES), ("alignments", json.dumps(facts))):
            files[name].append(made / f"{session}_{name}")
            files[name][-1].write_text("" if out else text, encoding="utf-8")
        for kind in participants.KINDS:
            files[kind].append(made / f"{session}_{kind}.png")
            files[kind][-1].write_bytes(b"" if out else b"png")
    decided = tmp_path / "exclusions.tsv"
    rows = [
        Exclusion(PERSON, "2", "memory", stage="align_run", code="E-DATA-B01", reason="cut <short>"),
        Exclusion(PERSON, "3", "memory", region="vmpfc", stage="signals", code="E-DATA-B08", reason="dark"),
        Exclusion("sub-02", "1", "memory", stage="align_run", code="E-DATA-B04", reason="of somebody else"),
    ]
    write_exclusions(decided, rows)
    (tmp_path / "results" / "participants").mkdir()
    t1w = made / f"{PERSON}_desc-preproc_T1w.nii.gz"
    anatomy = AnatomyFiles(*[t1w] * 4, made / "facts")
    picture = made / "anatomy.png"
    person = participants.PersonFiles(
        tmp_path / "results" / "participants" / f"{PERSON}.html", [(anatomy, picture)]
    )
    sources = '[{"source": "one_T1w.nii.gz"}, {"source": "two_T1w.nii.gz"}]'
    anatomy.facts.write_text(f'{{"brain_ml": 1621.3, "t1w_images": {sources}}}', encoding="utf-8")
    picture.write_bytes(b"png")
    pictures = {kind: files[kind] for kind in participants.KINDS}
    there = participants.ScanFiles(files["measures"], files["alignments"], pictures)
    return Study(
        person,
        participants.read_scans(scans, there, person.page),
        participants.Shared(
            participants.read_decided([decided, decided]), SESSIONS, Quality(max_mean_fd=0.5)
        ),
    )


def page_of(study: Study) -> str:
    participants.write_page(study.person, study.records, study.shared)
    return study.person.page.read_text(encoding="utf-8")


def test_every_scan_is_on_the_page_with_its_pictures_or_with_the_reason(study):
    page = Page(page_of(study))
    images = page.all("img")
    assert len(images) == 1 + 2 * len(participants.KINDS)
    assert all(image["alt"] and PERSON in image["alt"] for image in images)
    for image in images[1:]:
        assert image["src"].startswith("../derivatives/sub%2001/")
        assert (study.person.page.parent / image["src"].replace("%20", " ")).resolve().is_file()
    assert page.words.count("No picture: E-DATA-B01") == len(participants.KINDS)
    assert page.words.count("No scan in the dataset.") == len(participants.KINDS)
    assert "3 scans, 1 excluded." in page.words
    assert "cut <short>" in page.words
    assert "of somebody else" not in page.words
    assert page.words.count("dark") > 0


def test_a_number_beyond_its_threshold_is_marked_and_the_alignment_is_told(study):
    text = page_of(study)
    assert text.count('<td class="n bad">0.61</td>') == 2
    assert '<td class="n">55.25</td>' in text
    assert text.count('<td class="n">0.4321</td>') == 2
    assert "Brain: 1621.3 ml" in text


def test_states_tell_an_excluded_scan_from_one_with_a_missing_region(study):
    states = [participants.state_of(scan, study.shared.exclusions) for scan in study.records]
    assert states == ["", "excluded", "see remarks"]
    everybody = [Exclusion(PERSON, stage="prepare_anatomy", code="E-DATA-B22", reason="no head")]
    assert {participants.state_of(scan, everybody) for scan in study.records} == {"excluded"}


def test_a_person_without_anatomy_still_has_a_page(study):
    [(files, _)] = study.person.anatomies
    files.t1w.write_bytes(b"")
    files.facts.write_bytes(b"")
    participants.draw_anatomy(study.person, Path("regions"), Rois(regions={"a": {"labels": ["b"]}}))
    assert f"this anatomy ({PERSON}) is excluded" in Page(page_of(study)).words


def test_an_anatomy_that_fmriprep_did_not_leave_is_explained(study):
    [(files, picture)] = study.person.anatomies
    files.facts.write_text('{"absent": "E-BIDS-A21 fMRIPrep left no mask"}', encoding="utf-8")
    picture.write_bytes(b"")
    words = Page(page_of(study)).words
    assert "No picture: E-BIDS-A21 fMRIPrep left no mask" in words
    assert "Made from" not in words


def test_a_page_warns_the_lab_runs_no_script_and_loads_only_its_neighbours(study):
    text = page_of(study)
    page = Page(text)
    assert "For the lab only" in page.words
    assert "Do not share" in page.words
    assert not page.all("script")
    assert "http" not in text.replace('http-equiv="Content', "")
    assert "90 <b>days" in page.words
    assert not page.all("b")
    (policy,) = [tag["content"] for tag in page.all("meta") if "content" in tag and "http-equiv" in tag]
    assert "default-src 'none'" in policy
    assert not [tag for tag in page.all("img") if tag["src"].startswith("data:")], (
        "a page alone has no anatomy"
    )


def test_every_heading_of_a_page_is_reached_from_its_contents(study):
    page = Page(page_of(study))
    anchors = {link["href"][1:] for link in page.all("a") if link["href"].startswith("#")}
    assert anchors == {section["id"] for section in page.all("section")}


def test_the_index_has_one_row_per_person_and_one_cell_per_session(study):
    other = replace(study.records[0], key=study.records[0].key | {"participant_id": "sub-02"})
    page = Page(participants.compose_index([*study.records, other], study.shared))
    assert [link["href"] for link in page.all("a")] == ["cockpit.html", "sub-01.html", "sub-02.html"]
    assert page.words.count("no scan") == 1 + 3
    assert page.words.count("excluded") == 2, "sub-02's first session is out too"
    assert page.words.count("0.61 · 55.2") == 3
    assert "For the lab only" in page.words


def test_an_undeclared_session_and_a_study_without_sessions_have_their_column(study):
    shared = replace(study.shared, sessions={"1": "baseline"})
    headings = Page(participants.compose_index(study.records, shared)).words
    assert all(word in headings for word in ("baseline", "2", "3"))
    alone = replace(study.records[0], key=study.records[0].key | {"session_id": "n/a"})
    text = participants.compose_index([alone], replace(shared, sessions={}))
    assert "no scan" not in Page(text).words


def test_captions_say_what_good_and_what_bad_looks_like():
    for kind in (*participants.KINDS, "anatomy"):
        assert participants.CAPTIONS[kind].startswith("Good: ")
        assert "Bad: " in participants.CAPTIONS[kind]
    assert Path(participants.__file__).with_name("participant.html.j2").is_file()
