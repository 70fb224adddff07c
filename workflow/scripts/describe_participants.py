"""One page per participant with the picture of the anatomy, and their index."""

from pathlib import Path

from reconfmri.config import Quality, Rois
from reconfmri.jobs import job
from reconfmri.preprocess import AnatomyFiles
from reconfmri.report import participants
from reconfmri.report.cockpit import compose_cockpit

with job(snakemake) as log:
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    parts = [given.get(name, []) for name in ("t1w", "mask", "dseg", "to_t1w", "facts")]
    anatomies = [AnatomyFiles(*map(Path, files)) for files in zip(*parts, strict=True)]
    drawn = list(zip(anatomies, map(Path, out.pictures), strict=True))
    people = [
        participants.PersonFiles(
            page, [pair for pair in drawn if pair[0].t1w.name.startswith(f"{page.stem}_")]
        )
        for page in map(Path, out.pages)
    ]
    scans = participants.ScanFiles(
        measures=list(map(Path, given.measures)),
        alignments=list(map(Path, given.alignments)),
        pictures={
            **{kind: list(map(Path, given[kind])) for kind in participants.OF_IMAGES},
            **{
                kind: participants.placed(list(map(Path, given.get(kind, []))), places, len(params.scans))
                for kind, places in params.recorded.items()
            },
        },
    )
    shared = participants.Shared(
        participants.read_decided(given.decided), params.sessions, Quality.from_params(params.settings)
    )
    records = participants.read_scans(params.scans, scans, people[0].page)
    for person in people:
        participants.draw_anatomy(person, Path(given.regions), Rois.from_params(params.rois))
        participants.write_page(person, records, shared)
    for page in map(Path, out.index):
        for other in set(page.parent.glob("sub-*.html")) - {person.page for person in people}:
            other.unlink()  # of somebody who was taken out since
        page.write_text(participants.compose_index(records, shared), encoding="utf-8")
    for page in map(Path, out.cockpit):
        page.write_text(compose_cockpit(params.name, records, shared, page), encoding="utf-8")
    log.info("%d pages, %d scans", len(people), len(records))
