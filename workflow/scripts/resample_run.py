"""One run on the template grid by one interpolation, with its confounds."""

from pathlib import Path

from reconfmri.config import Preprocessing
from reconfmri.preprocess.embedded import AlignmentFiles, AnatomyFiles, PreprocessedFiles, resample_run
from reconfmri.step import run_step


def work(snakemake, _decisions):
    given, out = snakemake.input, snakemake.output
    resample_run(
        Path(given.bold),
        snakemake.params.tr,
        AnatomyFiles(*map(Path, (given.t1w, given.anatomy_mask, given.dseg, given.to_t1w, given.facts))),
        AlignmentFiles(*map(Path, (given.boldref, given.mask, given.alignment, given.displacement))),
        outputs=PreprocessedFiles(*map(Path, (out.bold, out.mask, out.dseg, out.confounds, out.metadata))),
        sidecar=snakemake.params.sidecar,
        settings=Preprocessing.from_params(snakemake.params.settings),
        threads=snakemake.threads,
    )


run_step(snakemake, work, described_by="metadata")
