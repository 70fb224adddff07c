"""The anatomy that fMRIPrep made of one person, taken over for the person's page."""

from pathlib import Path

from reconfmri.derivatives import place_of
from reconfmri.jobs import job
from reconfmri.preprocess import AnatomyFiles
from reconfmri.preprocess.fmriprep import adopt_anatomy
from reconfmri.step import describe_images

with job(snakemake) as log:
    out, params = snakemake.output, snakemake.params
    root = place_of(Path(), str(params.root))
    files = AnatomyFiles(*map(Path, (out.t1w, out.mask, out.dseg, out.to_t1w, out.facts)))
    why = adopt_anatomy(root, params.raw, files, res=params.asked["res"], relative=not root.is_absolute())
    describe_images(out.facts, out)
    log.info("%s", why or "adopted")
