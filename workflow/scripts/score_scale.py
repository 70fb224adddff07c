"""One clinical scale, scored, in long form."""

from reconfmri.config import Scale
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.measures import write_rows
from reconfmri.outcomes import score_scale
from reconfmri.provenance import log_to
from reconfmri.tables import read_table

with log_to(snakemake.log[0]) as log:
    scale = Scale.from_params(snakemake.params.settings)
    rows, missing = score_scale(read_table(snakemake.input.phenotype), snakemake.wildcards.scale, scale)
    asked = snakemake.params.sessions
    if asked:
        outside = ~rows["session_id"].isin(asked)
        log.info("%d rows of sessions that the study does not ask about are left out", outside.sum())
        rows = rows[~outside]
        missing = [row for row in missing if row.session_id in (*asked, "n/a")]
    write_rows(snakemake.output.measures, rows, Exclusion(participant_id="n/a"))
    write_exclusions(snakemake.output.exclusions, missing)
    log.info("%d rows, %d without a value", len(rows), len(missing))
