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


@pytest.fixture(scope="session")
def reference_data(real_data: Path) -> Path:
    """The folder of published data and answers, `reference` beside `RECONFMRI_DATA`; CI must have it."""
    folder = real_data.parent / "reference"
    if not folder.is_dir() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no {folder}")
    assert folder.is_dir(), f"CI runs without {folder}"
    return folder


LONGEST_FIRST = (
    "test_end_to_end",
    "test_recovery",
    "test_validate",
    "test_joint",
    "test_real_scan",
    "test_graph",
    "test_bench",
    "test_simulate",
    "test_group_bayes",
    "test_one_visit_table",
    "test_longitudinal",
    "test_report",
    "test_preprocess",
    "test_statistics",
    "test_freshness",
    "test_covariates",
    "test_fmriprep_engine",
    "test_cli",
)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Start the longest modules first; a worker takes whole modules, whose fixtures are made once."""
    order = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(item.module.__name__.split(".")[-1], len(order)))
