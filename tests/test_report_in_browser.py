"""The report in a real browser: sorted, filtered, saved, at every width, in the dark and without a script."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from tests.browser import page_in_browser
from tests.tables_study import ARMS, ASKED
from tests.test_report import EXCLUSIONS, demo_config, make_inputs

from reconfmri import report
from reconfmri.report.citations import REFERENCES, Citation, bibtex


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """The report of two outcomes as a file; 16 exclusions."""
    folder = tmp_path_factory.mktemp("report")
    config = demo_config()
    kept = {name: config["group"][name] for name in ("primary", "attributes")}
    arms = dict(zip(("active", "control"), ARMS, strict=True))
    config["group"] = kept | {"arms": arms, "outcomes": ASKED}
    made = make_inputs(folder, config=config)
    out = [
        replace(EXCLUSIONS[0], participant_id=f"sub-{n:02d}", reason=f"FD {n / 10:g}") for n in range(1, 17)
    ]
    path = folder / "report.html"
    path.write_text(
        report.compose(replace(made, exclusions=out, pictures=made.pictures[:4])), encoding="utf-8"
    )
    return path


def saved(page, label: str) -> bytes:
    with page.expect_download() as found:
        page.get_by_role("button", name=label).first.click()
    return found.value.path().read_bytes()


def test_tables_sort_filter_and_are_saved(page_of):
    with page_in_browser() as page:
        page.goto(page_of.as_uri())
        table = "#scans table.reasons"
        reasons = f"{table} tbody tr:not([hidden]) td:nth-child(4)"
        read = lambda: page.eval_on_selector_all(reasons, "all => all.map(each => each.textContent)")  # noqa: E731
        page.click(f"{table} th:nth-child(4) button")
        assert read() == sorted(read(), key=lambda text: float(text.removeprefix("FD ")))
        page.click(f"{table} th:nth-child(4) button")
        assert page.get_attribute(f"{table} th:nth-child(4)", "aria-sort") == "descending"
        assert read()[0] == "FD 1.6"
        page.get_by_role("searchbox").first.fill("FD 1.")
        assert read() == [f"FD {n / 10:g}" for n in range(16, 9, -1) if n != 10]
        with page.expect_download() as found:
            page.locator("#scans .scroll:has(table.reasons) + .tools button").click()
        lines = found.value.path().read_text(encoding="utf-8").splitlines()
        assert lines[0].split("\t") == ["What is out", "Where", "Decided in", "Reason", "By"]
        assert [line.split("\t")[3] for line in lines[1:]] == read()


def test_figures_are_saved_as_svg_and_as_png_of_300_dpi(page_of):
    with page_in_browser() as page:
        page.goto(page_of.as_uri())
        svg = saved(page, "Save as SVG: Every outcome over sessions").decode()
        png = Image.open(BytesIO(saved(page, "Save as PNG, 300 dpi: Every outcome over sessions")))
    assert svg.startswith("<svg")
    width = float(re.search(r'width="([0-9.]+)pt"', svg)[1]) / 72
    assert png.size[0] == pytest.approx(300 * width, rel=0.01)
    assert png.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert len(set(png.convert("L").resize((60, 60)).getdata())) > 5, "something is drawn"


def test_methods_are_copied_and_references_saved(page_of):
    with page_in_browser() as page:
        page.goto(page_of.as_uri())
        text = saved(page, "Save the methods as text").decode()
        page.get_by_role("button", name="Copy the methods").click()
        page.wait_for_function("document.querySelector('#methods .tools [role=status]').textContent !== ''")
        bib = saved(page, "Save the references as BibTeX").decode()
    assert "Bayesian model\n\n" in text
    assert bib.count("@article{") > 10
    assert bib.count("{") == bib.count("}")


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, False), (400, True)])
def test_the_report_fits_and_is_accessible(page_of, width, dark):
    with page_in_browser(width, dark=dark) as page:
        page.goto(page_of.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        alts = page.eval_on_selector_all("img", "all => all.map(each => each.alt)")
        assert not [alt for alt in alts if len(alt.split()) < 4]
        ids = page.eval_on_selector_all("[id]", "all => all.map(each => each.id)")
        assert len(ids) == len(set(ids))


def test_every_reference_is_an_entry_with_a_key_of_its_own():
    rows = [line.split("\t") for line in REFERENCES.read_text(encoding="utf-8").splitlines()[1:]]
    every = [Citation(used_for, reference) for _, used_for, reference in rows]
    bib = bibtex(every)
    keys = re.findall(r"@\w+\{([^,]+),", bib)
    assert len(keys) == len(set(keys)) == len(every)
    assert "doi = {10.1038/sdata.2016.44}" in bib
    assert "author = {Gorgolewski, KJ and others}" in bib
    assert bib.count("@article") >= 0.8 * len(every)
    assert bibtex([Citation("x", "A note {of} 2020 & more_of")]).count("\\&") == 1
