"""fMRIPrep for one participant, in a container."""

import json
import os
from pathlib import Path

from reconfmri.preprocess.container import Places, command_line, run_participant
from reconfmri.provenance import log_to

with log_to(snakemake.log[0]) as log:
    params, sub = snakemake.params, snakemake.wildcards.sub
    places = Places(**{name: Path(path).expanduser().absolute() for name, path in params.places.items()})
    places = places._replace(work=places.work / f"sub-{sub}")
    command = command_line(
        params.asked["runtime"],
        params.asked["image"],
        places,
        sub,
        res=params.asked["res"],
        options=params.asked["options"],
        threads=snakemake.threads,
        memory_mb=snakemake.resources.mem_mb,
        user=f"{os.getuid()}:{os.getgid()}",
    )
    log.info("%s", json.dumps(command))
    run_participant(command, places, Path(snakemake.log.words))
    Path(snakemake.output.record).write_text(json.dumps(command, indent=1) + "\n", encoding="utf-8")
