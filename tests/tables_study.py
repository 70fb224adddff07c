"""A study folder as the workflow leaves it, of tables alone: run table, measures, exclusions, allocation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from tests.test_report import allocation_table, demo_config, measure_table, run_table

from reconfmri.bids import write_run_table
from reconfmri.config import parse_config
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.measures import DESCRIPTIONS
from reconfmri.tables import write_table

ARMS = {"ketamine": "quokka", "midazolam": "numbat"}  # names that nothing else holds
ASKED = ["amygdala.trauma_first-neutral_first", "pcl5.total"]
MOVED = Exclusion(
    "sub-03", "2", "memory", stage="assess_quality", code="E-DATA-B12",
    reason="E-DATA-B12 mean framewise displacement is 0.71 mm, above 0.5 mm",
)  # fmt: skip


def tables_study(folder: Path, blinding: str = "coded", **group: object) -> Path:
    """Write the folder and return it; the arms are called as in ARMS, `group` changes that section."""
    settings = demo_config()
    kept = {name: settings["group"][name] for name in ("primary", "allocation")}
    arms = {"active": "quokka", "control": "numbat"}
    settings |= {"question": "Is the response smaller?"}
    settings["group"] = (
        kept | {"arms": arms, "blinding": blinding, "outcomes": ASKED, "permutations": 0} | group
    )
    settings["scales"] = {"pcl5": settings["scales"]["pcl5"]}
    study = parse_config(settings)
    runs, allocation = run_table(), allocation_table()
    measures = measure_table(study, runs, arms=allocation)
    for name in ("config", "results", "bids/phenotype"):
        (folder / name).mkdir(parents=True)
    (folder / "config/config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    hashes = {f"{name}_sha256": "n/a" for name in ("bold", "t1w", "events", "physio")}
    write_run_table(folder / "config/runs.tsv", runs.fillna("n/a").assign(**hashes))
    write_exclusions(folder / "config/exclusions.tsv", [])
    write_exclusions(folder / "results/exclusions.tsv", [MOVED])
    write_table(folder / "results/measures.tsv", measures[list(DESCRIPTIONS)], DESCRIPTIONS)
    write_table(folder / "allocation.tsv", allocation.replace({"arm": ARMS}))
    events = {"participant_id": ["sub-01", "sub-01", "sub-02"], "term": ["Nausea", "Nausea", "Headache"]}
    table = pd.DataFrame(events | {"serious": ["no", "no", "yes"]})
    write_table(folder / "bids/phenotype/adverse_events.tsv", table)
    return folder
