"""The documentation site: a page for every rule, and no link that leads nowhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from reconfmri.contracts.rules import RULES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site():
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "docs" / "site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(site, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "source"
    site.write_source(folder)
    return folder


def test_every_rule_of_the_workflow_has_a_page_with_what_it_makes(site, source):
    written = {
        match
        for path in (ROOT / "workflow/rules").glob("*.smk")
        for match in re.findall(r"^rule (\w+):", path.read_text(), re.M)
    }
    assert set(RULES) <= written == set(site.texts())
    for name in written:
        page = (source / f"docs/rules/{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {name}\n\n")
        assert f"rule {name}:" in page
        for file in RULES[name].files.values() if name in RULES else ():
            assert file.what in page
        reads = "allocation" in site.texts()[name].block
        assert f"| Reads the arms | {'yes' if reads else 'no'} |" in page


def test_only_rules_of_the_group_read_the_arms(site):
    """As the pages say; that the graph keeps to it is tested in tests/workflow/test_graph.py."""
    reading = {name for name, text in site.texts().items() if "allocation" in text.block}
    assert reading
    assert all(RULES[name].of == "study" for name in reading)


def test_the_site_builds_without_a_warning_and_asks_for_nothing_from_elsewhere(site, tmp_path):
    assert site.build(tmp_path) == 0
    for page in (tmp_path / "site").rglob("*.html"):
        fetched = re.findall(
            r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)", page.read_text("utf-8")
        )
        assert not fetched, f"{page.name} fetches {fetched}"


def test_every_page_is_in_the_table_of_contents(site, source):
    listed = {page for pages in site.CONTENTS.values() for page in pages} | {"index"}
    there = {path.relative_to(source).with_suffix("").as_posix() for path in source.rglob("*.md")}
    assert {page for page in there if not page.startswith(("docs/rules/", "config/trials/"))} <= listed


def test_the_rule_graph_leads_to_the_pages(site):
    picture = site.linked_graph()
    rules = re.findall(r'<a href="rules/(\w+)\.html">', picture)
    assert set(rules) == {name for pair in site.edges() for name in pair} - {"all"}
