"""Head motion, reference volume and its mask, and the rigid map to the T1w, of one run."""

from pathlib import Path

from reconfmri.fieldmaps import Fieldmap
from reconfmri.itk import write_alignment
from reconfmri.preprocess.embedded import AlignmentFiles, AnatomyFiles, align_run
from reconfmri.step import run_step


def work(snakemake, decisions):
    given, out = snakemake.input, snakemake.output
    remarks = align_run(
        Path(given.bold),
        Path(snakemake.params.t1w),
        AnatomyFiles(*map(Path, (given.t1w, given.mask, given.dseg, given.to_t1w, given.facts))),
        outputs=AlignmentFiles(*map(Path, (out.boldref, out.mask, out.alignment, out.displacement))),
        given=Fieldmap.from_params(snakemake.params.fieldmap, given.get("fieldmap", [])),
        sidecar=snakemake.params.sidecar,
        sha256=snakemake.params.sha256,
        threads=snakemake.threads,
    )
    write_alignment(
        Path(out.alignment), head_motion=Path(out.head_motion), coregistration=Path(out.coregistration)
    )
    for remark in remarks:
        decisions.add(snakemake.rule, remark)


run_step(snakemake, work, described_by="alignment")
