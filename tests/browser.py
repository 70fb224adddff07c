"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "no Chromium on this machine. Fix: apt-get install chromium"


@contextmanager
def page_in_browser(width: int = 1400, height: int = 900, *, dark: bool = False) -> Iterator[Page]:
    """A page whose network is off and whose errors fail the test; skipped without Chromium, never in CI."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(MISSING)
    with sync_playwright() as playwright:
        # A container's root has no sandbox; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": width, "height": height},
            accept_downloads=True,
            offline=True,
            color_scheme="dark" if dark else "light",
        )
        page, errors = context.new_page(), list[str]()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        yield page
        browser.close()
        assert errors == []


def rate_by_keyboard(study: Path, *, out: str) -> Path:
    """Rate every scan of a study in a browser, all to be kept but one, and return the file that it saves."""
    path = study / "ratings_Ada.json"
    with page_in_browser() as page:
        page.goto((study / "results/participants/cockpit.html").as_uri())
        page.keyboard.press("Tab")
        page.keyboard.type("Ada")
        page.keyboard.press("Enter")
        for _ in page.query_selector_all("#list li"):
            page.keyboard.press("3" if page.inner_text("#scan").endswith(out) else "1")
            page.keyboard.press("ArrowRight")
        with page.expect_download() as saved:
            page.focus("#save")
            page.keyboard.press("Enter")
        saved.value.save_as(path)
    return path
