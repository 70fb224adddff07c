"""What tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data, `RECONFMRI_DATA`; CI must have it, elsewhere its tests are left out."""
    folder = os.environ.get("RECONFMRI_DATA")
    if not folder and os.environ.get("CI") != "true":
        pytest.skip("RECONFMRI_DATA is not set")
    assert folder, "CI runs without RECONFMRI_DATA"
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Keep tests that share a module's fixture on one worker, so that it is made once."""
    for item in items:
        made = [part[-1].scope for part in item._fixtureinfo.name2fixturedefs.values()]
        if "module" in made:
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
