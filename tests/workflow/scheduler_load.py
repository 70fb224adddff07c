"""Processor time of Snakemake's main process where every job of a planned study only waits.

    python tests/workflow/scheduler_load.py FOLDER --participants 9 --seconds 1 --cores 10

runs the whole workflow on the study in FOLDER, which is made with four visits each where there is none, and
prints one line of JSON: jobs, processor and wall time of planning and of the run in s, and timers that the
scheduler left. Options that are not known here go to Snakemake.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from planned_study import ROOT, plan_study


def processor_time() -> float:
    """User and system time, s, of this process and what it started and waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def run_waiting_jobs(folder: Path, seconds: float, arguments: list[str]) -> dict[str, Any]:
    """Run Snakemake in this process with jobs that wait for `seconds` and leave empty outputs."""
    from snakemake.cli import main
    from snakemake.executors import local
    from snakemake.scheduling.job_scheduler import JobScheduler

    found: dict[str, Any] = {"jobs": 0, "timers": 0}
    leave_timer, schedule = JobScheduler._schedule_reevalutation, JobScheduler.schedule

    def wait(rule: Any, given: Any, output: list[str], *rest: Any) -> None:
        found["jobs"] += 1
        time.sleep(seconds)
        for path in output:
            Path(path).touch()

    def counted(self: JobScheduler, delay: int) -> None:
        found["timers"] += 1
        leave_timer(self, delay)

    def measured(self: JobScheduler) -> bool:
        found["scheduler"] = type(self._job_selector.__self__).__module__
        before = processor_time(), time.monotonic()
        done = schedule(self)
        found["planning_cpu_s"] = round(before[0], 2)
        found["run_cpu_s"] = round(processor_time() - before[0], 2)
        found["run_wall_s"] = round(time.monotonic() - before[1], 2)
        return done

    local.run_wrapper = wait
    JobScheduler._schedule_reevalutation, JobScheduler.schedule = counted, measured
    try:
        main(
            ["--directory", str(folder), "--snakefile", str(ROOT / "Snakefile"), "--quiet", "all", *arguments]
        )
    except SystemExit as ended:
        found["exit_code"] = ended.code
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--participants", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    known, others = parser.parse_known_args()
    if not known.folder.exists():
        plan_study(known.folder, participants=known.participants)
    print(json.dumps(run_waiting_jobs(known.folder.resolve(), known.seconds, others)))
