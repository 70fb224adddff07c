"""Anatomy of one person: bias field, brain mask, tissue, and the map from template to T1w."""

from pathlib import Path

from reconfmri.config import Preprocessing
from reconfmri.preprocess.embedded import AnatomyFiles, prepare_anatomy
from reconfmri.step import run_step


def work(snakemake, decisions):
    out = snakemake.output
    remarks = prepare_anatomy(
        dict(zip(map(Path, snakemake.input.t1w), snakemake.params.sha256, strict=True)),
        outputs=AnatomyFiles(*map(Path, (out.t1w, out.mask, out.dseg, out.to_t1w, out.facts))),
        settings=Preprocessing.from_params(snakemake.params.settings),
        threads=snakemake.threads,
    )
    for remark in remarks:
        decisions.add(snakemake.rule, remark)


run_step(snakemake, work, described_by="facts")
