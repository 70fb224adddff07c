"""The arms compared in every voxel: one repeated-measures model, and other draws of the allocation."""

from pathlib import Path

from reconfmri.config import Rois
from reconfmri.contracts.voxels import voxel_images
from reconfmri.group.tables import asked_of
from reconfmri.jobs import job
from reconfmri.voxels.compare import compare
from reconfmri.voxels.contrast import Asking
from reconfmri.voxels.files import harvard_oxford_at, region_masks, scan_maps, write_answer
from reconfmri.voxels.scans import read_images

with job(snakemake) as log:
    asked = asked_of(snakemake)
    settings, given = asked.group.voxels, snakemake.input
    rois = Rois.from_params(snakemake.params.rois)
    regions, grid = region_masks(Path(given.regions), Path(given.region_table), rois, settings.regions)
    scans = scan_maps(snakemake.params.scans, given.effects, given.variances, settings.contrasts)
    images = {name: read_images(maps, like=grid) for name, maps in scans.items()}
    asking = Asking(asked, settings, regions, harvard_oxford_at, threads=snakemake.threads)
    answer = compare(asking, images)
    declared = voxel_images(asked.group, asked.sessions)
    write_answer(
        answer, dict(snakemake.output.items()), dict(zip(declared, snakemake.output.images, strict=True))
    )
    for reason in answer.exclusions["reason"]:
        log.warning("left out: %s", reason)
