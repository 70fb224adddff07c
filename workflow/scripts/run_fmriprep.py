"""fMRIPrep for one participant, in a container."""

import json
import os
from datetime import datetime
from pathlib import Path

from reconfmri.jobs import job
from reconfmri.preprocess.container import Places, command_line, run_participant

with job(snakemake) as log:
    params, sub = snakemake.params, snakemake.wildcards.sub
    places = Places(**{name: params[name].expanduser().absolute() for name in Places._fields})
    places = places._replace(work=places.work / f"sub-{sub}")
    command = command_line(
        params.asked["runtime"],
        str(snakemake.input.image or params.image),
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
    # With its date: a job that ran again may have made other files, for whoever takes them over.
    record = {"command": command, "ended": datetime.now().astimezone().isoformat(timespec="seconds")}
    Path(snakemake.output.record).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
