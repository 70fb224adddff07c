"""One run as fMRIPrep made it, taken over by links."""

from pathlib import Path

from reconfmri.derivatives import find_run, place_of, versions_of
from reconfmri.preprocess import PreprocessedFiles
from reconfmri.preprocess.fmriprep import AdoptedFiles, adopt_run
from reconfmri.step import run_step


def work(snakemake, _decisions):
    out, scan = snakemake.output, snakemake.params.scan
    asked, root = snakemake.params.asked, place_of(Path(), str(snakemake.params.root))
    files = PreprocessedFiles(*map(Path, (out.bold, out.mask, out.dseg, out.confounds, out.metadata)))
    adopt_run(
        find_run(root, scan["raw"], res=asked["res"]),
        AdoptedFiles(files, Path(out.boldref), Path(out.t1w)),
        tr=scan["tr"],
        n_volumes=scan["n_volumes"],
        n_components=asked["acompcor"],
        n_temporal=asked["tcompcor"],
        versions=versions_of(root, f"sub-{snakemake.wildcards.sub}", last=asked["container"]),
        relative=not root.is_absolute(),
    )


run_step(snakemake, work, described_by="metadata")
