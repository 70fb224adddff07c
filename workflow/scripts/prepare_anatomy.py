"""Anatomy of one person: bias field, brain mask, tissue, and the map from template to T1w."""

import json
from pathlib import Path

from reconfmri.config import Preprocessing
from reconfmri.preprocess.embedded import AnatomyFiles, prepare_anatomy
from reconfmri.step import run_step


def work(snakemake, _decisions):
    out = snakemake.output
    facts = prepare_anatomy(
        Path(snakemake.input.t1w),
        outputs=AnatomyFiles(*map(Path, (out.t1w, out.mask, out.dseg, out.to_t1w))),
        settings=Preprocessing.from_params(snakemake.params.settings),
        sha256=snakemake.params.sha256,
        threads=snakemake.threads,
    )
    Path(out.facts).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


run_step(snakemake, work)
