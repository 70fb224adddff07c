"""The rating page: complete, escaped and blind, and in a real browser worked by keyboard alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from tests.browser import page_in_browser
from tests.pages import Page

from reconfmri.config import Quality
from reconfmri.contracts.ratings import ARTEFACTS, DATA, FORMAT
from reconfmri.exclusions import Exclusion
from reconfmri.report.cockpit import compose_cockpit
from reconfmri.report.participants import ScanRecord, Shared

STUDY = 'A "study" </script><b>&'
HOSTILE = "</script><img src=x onerror=alert(1)>"
N_SCANS = 12


@pytest.fixture(scope="module")
def cockpit(tmp_path_factory) -> Path:
    """The page of twelve scans beside their pictures; the first moved too much, the second has no picture."""
    folder = tmp_path_factory.mktemp("lab") / "participants"
    folder.mkdir()
    Image.new("L", (600, 120), 70).save(folder.parent / "edges.png")
    records = [
        ScanRecord(
            key={"participant_id": f"sub-{n:02d}", "session_id": "1", "task": "memory", "run": "n/a"},
            tr=2.0,
            n_volumes=100,
            measures={"fd.mean": 0.9 if n == 1 else 0.12, "tsnr.median": 55.0},
            pictures={} if n == 2 else {"edges": "../edges.png", "carpet": "../edges.png"},
        )
        for n in range(1, N_SCANS + 1)
    ]
    out = Exclusion("sub-01", "1", "memory", stage="assess_quality", code="E-DATA-B12", reason=HOSTILE)
    by_hand = Exclusion("sub-03", code="E-X", reason="unblinded: ketamine", decided_by="Jane")
    quality = Quality.from_params({"max_mean_fd": 0.5})
    page = folder / "cockpit.html"
    page.write_text(
        compose_cockpit(STUDY, records, Shared([out, by_hand], {}, quality), page), encoding="utf-8"
    )
    return page


def scan_shown(page) -> str:
    return page.inner_text("#scan").partition(": ")[2]


def begin(page, cockpit: Path, rater: str) -> None:
    page.goto(cockpit.as_uri())
    page.keyboard.press("Tab")
    page.keyboard.type(rater)
    page.keyboard.press("Enter")


def test_the_page_is_one_file_that_loads_only_its_pictures(cockpit):
    text = cockpit.read_text(encoding="utf-8")
    page = Page(text)
    policy = next(value for name, value in page.attributes if value.startswith("default-src 'none'"))
    assert "script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert not [
        value for name, value in page.attributes if name in ("src", "href", "style") or name.startswith("on")
    ]
    assert page.tags.count("script") == 2
    assert not re.search("https?:", text)
    assert "ketamine" not in text, "what a person wrote of a scan may tell its arm"


def test_every_scan_is_rated_by_keyboard_alone_and_nothing_is_lost(cockpit, tmp_path):
    with page_in_browser() as page:
        begin(page, cockpit, "Ada  Lovelace")
        assert page.evaluate("document.activeElement.id") == "scan"
        seen = []
        for number in range(N_SCANS):
            seen.append(scan_shown(page))
            page.keyboard.press("123"[number % 3])
            page.keyboard.press("ArrowRight")
        assert sorted(seen) == [f"sub-{n:02d} ses-1 task-memory" for n in range(1, N_SCANS + 1)]
        assert seen != sorted(seen)
        assert page.inner_text("#progress") == f"Ada Lovelace: {N_SCANS} of {N_SCANS} rated"
        page.keyboard.press("ArrowLeft")
        page.focus("#artefacts input[value=ghost-aliasing]")
        page.keyboard.press("Space")
        page.focus("#notes")
        page.keyboard.type("3 stripes, 1 side")
        assert page.get_attribute("button[data-rating=unsure]", "aria-pressed") == "true", (
            "digits in notes rate nothing"
        )
        begin(page, cockpit, "ada lovelace")
        assert page.input_value("#notes") == "3 stripes, 1 side"
        with page.expect_download() as saved:
            page.focus("#save")
            page.keyboard.press("Enter")
        assert saved.value.suggested_filename == "ratings_ada-lovelace.json"
        saved.value.save_as(tmp_path / "ratings.json")
    found = json.loads((tmp_path / "ratings.json").read_text(encoding="utf-8"))
    assert (found["format"], found["study"]) == (FORMAT, STUDY)
    assert found["order"] == seen
    by_label = {f"{row['participant_id']} ses-1 task-memory": row for row in found["ratings"]}
    assert [by_label[label]["rating"] for label in seen] == ["keep", "unsure", "exclude"] * 4
    marked = by_label[seen[-2]]
    assert (marked["artifacts"], marked["notes"]) == (["ghost-aliasing"], "3 stripes, 1 side")
    assert set(marked["artifacts"]) <= set(ARTEFACTS)


def test_every_rater_has_an_order_and_ratings_of_his_own_and_goes_on_from_a_file(cockpit, tmp_path):
    with page_in_browser() as page:
        orders = {}
        for rater in ("Ada", "Ben", "Ada"):
            begin(page, cockpit, rater)
            order = page.eval_on_selector_all("#list button", "all => all.map(each => each.textContent)")
            assert orders.setdefault(rater, order) == order
            if rater == "Ben":
                page.keyboard.press("3")
        assert orders["Ada"] != orders["Ben"]
        assert page.inner_text("#progress").startswith("Ada: 0 of")
        begin(page, cockpit, "Ben")
        with page.expect_download() as saved:
            page.click("#save")
        saved.value.save_as(tmp_path / "ratings_Ben.json")
    with page_in_browser() as page:
        page.goto(cockpit.as_uri())
        page.set_input_files("#load", tmp_path / "ratings_Ben.json")
        page.wait_for_selector("#rating:not([hidden])")
        assert page.inner_text("#progress").startswith("Ben: 1 of")


def test_a_scan_whose_pictures_changed_is_to_be_rated_again(cockpit):
    """The ratings stay in the browser while the page is made anew with another picture of one scan."""
    before = cockpit.read_text(encoding="utf-8")
    with page_in_browser() as page:
        begin(page, cockpit, "Ada")
        for _ in range(N_SCANS):
            page.keyboard.press("1")
            page.keyboard.press("ArrowRight")
        now = json.loads(DATA.search(before)[1])["scans"][4]
        try:
            cockpit.write_text(before.replace(now["digest"], "0" * 64, 1), encoding="utf-8")
            begin(page, cockpit, "Ada")
            n = before.count(now["digest"])
            assert page.inner_text("#progress") == f"Ada: {N_SCANS - 1} of {N_SCANS} rated"
            page.click("#unrated")
            assert "The pictures changed since this scan was rated" in page.inner_text("#flags")
            assert page.locator("button[aria-pressed=true]").count() == 0
            page.keyboard.press("3")
            assert page.inner_text("#progress") == f"Ada: {N_SCANS} of {N_SCANS} rated"
            assert "The pictures changed" not in page.inner_text("#flags")
        finally:
            cockpit.write_text(before, encoding="utf-8")
    assert n > 1, "scans with the same pictures have the same digest"


@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_is_usable_at_any_width_and_without_violations_of_accessibility(cockpit, width):
    with page_in_browser(width) as page:
        page.goto(cockpit.as_uri())
        before = Axe().run(page)
        begin(page, cockpit, "Ada")
        for _ in range(N_SCANS):
            if scan_shown(page).startswith("sub-01"):
                break
            page.keyboard.press("ArrowRight")
        page.keyboard.press("3")
        assert "E-DATA-B12" not in page.inner_text("#flags"), "the reason is shown as it stands"
        assert HOSTILE in page.inner_text("#flags")
        assert page.locator("#numbers .bad").inner_text() == "0.9"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        images = page.eval_on_selector_all("#pictures img", "all => all.map(each => each.naturalWidth)")
        assert images == [600, 600]
        for found in (before, Axe().run(page)):
            assert found.violations_count == 0, found.generate_report()
