"""The regions of the study on the template grid."""

from pathlib import Path

import nibabel as nib

from reconfmri.config import Region
from reconfmri.jobs import job
from reconfmri.rois import REGION_DESCRIPTIONS, carry_atlas
from reconfmri.tables import write_table

with job(snakemake):
    regions = {name: Region.from_params(region) for name, region in snakemake.params.regions.items()}
    weights, affine, table = carry_atlas(
        regions,
        resolution=snakemake.params.resolution,
        like=Path(snakemake.input.grid) if snakemake.input.grid else None,
        threads=snakemake.threads,
    )
    nib.save(nib.Nifti1Image(weights, affine), snakemake.output.masks)
    write_table(snakemake.output.table, table, REGION_DESCRIPTIONS)
