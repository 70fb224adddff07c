"""What Snakemake's main process costs beside the jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("scheduler_load.py")


@pytest.mark.parametrize(("limit", "timers"), [([], False), (["--max-jobs-per-timespan", "1000/1s"], True)])
def test_no_timer_wakes_the_scheduler_unless_the_user_limits_the_rate_of_jobs(tmp_path, limit, timers):
    """Each timer wakes it every second until the end of the run: their number is what a long run costs."""
    command = [
        sys.executable,
        str(DRIVER),
        str(tmp_path / "study"),
        "--participants",
        "1",
        "--seconds",
        "0.02",
    ]
    done = subprocess.run([*command, "--cores", "2", *limit], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exit_code"] == 0
    assert found["jobs"] > 40
    assert bool(found["timers"]) is timers
    # The default one solves integer programmes: told to end meanwhile, it can hang.
    assert found["scheduler"] == "snakemake.scheduling.greedy"
