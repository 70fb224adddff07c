"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

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
