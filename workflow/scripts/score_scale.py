"""One clinical scale, scored, in long form."""

from reconfmri.config import Scale
from reconfmri.decisions import is_out
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.jobs import job
from reconfmri.measures import write_rows
from reconfmri.scales.scoring import meet_people, of_sessions, score_scale
from reconfmri.tables import read_table

with job(snakemake) as log:
    params, name = snakemake.params, snakemake.wildcards.scale
    scale = Scale.from_params(params.settings)
    rows, found = score_scale(read_table(snakemake.input.phenotype), name, scale)
    if params.sessions:
        outside = ~rows["session_id"].isin(params.sessions)
        log.info("%d rows of sessions that the study does not ask about are left out", outside.sum())
        rows = rows[~outside]
        found = of_sessions(found, params.sessions)
    rows, nobody = meet_people(rows, name, params.people, params.sessions or ["n/a"], list(scale.scores))
    decided = [Exclusion(**row) for row in params.decided]
    found = [one for one in found + nobody if not is_out(decided, one.participant_id, one.session_id)]
    write_rows(snakemake.output.measures, rows, Exclusion(participant_id="n/a"))
    write_exclusions(snakemake.output.exclusions, [one.exclusion for one in found])
    log.info("%d rows, %d without a value", len(rows), len(found))
