"""The page of one participant, and the picture of the anatomy on it."""

import json
from pathlib import Path

from reconfmri.config import Quality, Rois
from reconfmri.figures.scans import picture_of_person
from reconfmri.figures.style import light_png
from reconfmri.preprocess import AnatomyFiles
from reconfmri.provenance import log_to
from reconfmri.report import participants
from reconfmri.step import is_empty

with log_to(snakemake.log[0]) as log:
    given, out, params = snakemake.input, snakemake.output, snakemake.params
    page, picture, anatomy = Path(out.page), Path(out.picture), {}
    picture.write_bytes(b"")
    if not is_empty(given.t1w):
        files = AnatomyFiles(*map(Path, (given.t1w, given.mask, given.dseg, given.to_t1w)))
        figure = picture_of_person(files, Path(given.regions), Rois.from_params(params.rois))
        picture.write_bytes(light_png(figure))
        anatomy = json.loads(Path(given.facts).read_text(encoding="utf-8"))
    name = f"sub-{snakemake.wildcards.sub}"
    person = participants.Participant(
        name,
        participants.read_scans(
            params.scans,
            participants.ScanFiles(
                measures=list(map(Path, given.measures)),
                alignments=list(map(Path, given.alignments)),
                pictures={kind: list(map(Path, given[kind])) for kind in participants.KINDS},
            ),
            page,
        ),
        participants.read_decided([given.index, *given.decided], name),
        params.sessions,
        Quality.from_params(params.settings),
        anatomy,
        participants.address(picture, page),
    )
    page.write_text(participants.compose_participant(person), encoding="utf-8")
    log.info("%d scans", len(person.scans))
