"""One run as fMRIPrep made it, taken over by links."""

from pathlib import Path

from reconfmri.config import Preprocessing
from reconfmri.derivatives import find_run, place_of, versions_of
from reconfmri.preprocess import PreprocessedFiles
from reconfmri.preprocess.fmriprep import AdoptedFiles, adopt_run
from reconfmri.step import run_step


def work(snakemake, _decisions):
    out, scan = snakemake.output, snakemake.params.scan
    settings = Preprocessing.from_params(snakemake.params.settings)
    root = place_of(Path(), settings.fmriprep.derivatives)
    files = PreprocessedFiles(*map(Path, (out.bold, out.mask, out.dseg, out.confounds, out.metadata)))
    adopt_run(
        find_run(root, scan["raw"], res=settings.fmriprep.res),
        AdoptedFiles(files, Path(out.boldref), Path(out.t1w)),
        tr=scan["tr"],
        n_volumes=scan["n_volumes"],
        n_components=settings.acompcor,
        n_temporal=settings.tcompcor,
        versions=versions_of(root, f"sub-{snakemake.wildcards.sub}", last=bool(settings.fmriprep.container)),
        relative=not root.is_absolute(),
    )


run_step(snakemake, work)
