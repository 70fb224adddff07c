"""The anatomy that fMRIPrep made of one person, taken over for the person's page."""

from pathlib import Path

from reconfmri.config import Preprocessing
from reconfmri.derivatives import place_of
from reconfmri.preprocess import AnatomyFiles
from reconfmri.preprocess.fmriprep import adopt_anatomy
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]) as log:
    out, settings = snakemake.output, Preprocessing.from_params(snakemake.params.settings)
    root = place_of(Path(), settings.fmriprep.derivatives)
    files = AnatomyFiles(*map(Path, (out.t1w, out.mask, out.dseg, out.to_t1w, out.facts)))
    why = adopt_anatomy(
        root, snakemake.params.raw, files, res=settings.fmriprep.res, relative=not root.is_absolute()
    )
    log.info("%s", why or "adopted")
