"""The regions of the study on the template grid."""

from pathlib import Path

import nibabel as nib

from reconfmri.config import Rois
from reconfmri.jobs import job
from reconfmri.rois import REGION_DESCRIPTIONS, carry_atlas
from reconfmri.tables import write_table

with job(snakemake):
    weights, affine, table = carry_atlas(
        Rois.from_params(snakemake.params.regions),
        resolution=snakemake.params.resolution,
        like=Path(snakemake.input.grid) if snakemake.input.grid else None,
        threads=snakemake.threads,
    )
    nib.save(nib.Nifti1Image(weights, affine), snakemake.output.masks)
    write_table(snakemake.output.table, table, REGION_DESCRIPTIONS)
