"""One step of the workflow at the border: log, exclusions in, the work, exclusions out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reconfmri.bids import sha256
from reconfmri.exclusions import MISSING, DataFault, Decisions, Exclusion, read_exclusions, write_exclusions
from reconfmri.jobs import job

NO_FACTS = b"{}\n"  # an empty file is no JSON: readers of the whole dataset would stop at it


def run_step(snakemake: Any, work: Callable[[Any, Decisions], None], *, described_by: str = "") -> None:
    """Do `work(snakemake, decisions)` and write `output.exclusions`; rows of other units are left aside.

    A unit that is out already, or that a raised `DataFault` takes out now, leaves empty files as outputs,
    so that the rest of the study goes through; whoever reads them looks at the exclusions first. What a
    step made before it excluded the unit by a fault that it adds and does not raise stays, for the report.
    `described_by` names the output that is a JSON and is to hold the sha256 of the images beside it.
    """
    unit = unit_of(snakemake.wildcards)
    decisions = Decisions(unit, [row for row in _exclusions_before(snakemake.input) if row.concerns(unit)])
    with job(snakemake) as log:
        started = time.monotonic()
        if decisions.excluded:
            _leave_empty(snakemake.output)
        else:
            try:
                work(snakemake, decisions)
                if described_by:
                    describe_images(snakemake.output[described_by], snakemake.output)
            except DataFault as fault:
                log.warning("excluded: %s", fault.line)
                decisions.add(snakemake.rule, fault)
                _leave_empty(snakemake.output)
        write_exclusions(snakemake.output.exclusions, decisions.rows)
        log.info("%s finished in %.1f s", snakemake.rule, time.monotonic() - started)


def unit_of(wildcards: Any) -> Exclusion:
    """Return the unit that a rule's wildcards name, as an exclusion without a reason."""
    given = dict(wildcards.items())
    return Exclusion(
        participant_id=f"sub-{given['sub']}",
        session_id=given.get("ses", MISSING),
        task=given.get("task", MISSING),
        run=given.get("run", MISSING),
    )


def is_empty(path: str | Path) -> bool:
    """Whether a file is the empty place-holder of an excluded unit."""
    size = Path(path).stat().st_size
    return size == 0 or (size == len(NO_FACTS) and Path(path).read_bytes() == NO_FACTS)


def describe_images(description: str | Path, outputs: Iterable[str]) -> None:
    """Write the sha256 of the images among `outputs` into the JSON `description` that goes with them.

    Later steps depend on it, and on the images whatever their dates: they are too large to be read anew each
    time Snakemake asks whether something changed.
    """
    path = Path(description)
    images = [Path(name) for name in outputs if str(name).endswith((".nii", ".nii.gz"))]
    known = json.loads(path.read_text(encoding="utf-8"))
    known["Sha256"] = {image.name: sha256(image) for image in images if image.is_file()}
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _exclusions_before(inputs: Any) -> list[Exclusion]:
    before = inputs.get("exclusions", [])
    paths: Iterable[str] = [before] if isinstance(before, str) else before
    return list(dict.fromkeys(row for path in paths for row in read_exclusions(path)))


def _leave_empty(outputs: Iterable[str]) -> None:
    for path in outputs:
        # A link to somebody's derivatives must go, not what it points to.
        Path(path).unlink(missing_ok=True)
        Path(path).write_bytes(NO_FACTS if str(path).endswith(".json") else b"")
