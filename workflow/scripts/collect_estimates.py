"""Both methods on one answer sheet, corrected within the declared families."""

from reconfmri.config import Group
from reconfmri.contracts.questions.columns import ESTIMATES
from reconfmri.group import combine, unanswered
from reconfmri.jobs import job
from reconfmri.trial.lock import stamps

with job(snakemake) as log:
    tables = [ESTIMATES.read(path) for path in snakemake.input.estimates]
    estimates = combine(tables, Group.from_params(snakemake.params.settings))
    estimates["stamp"] = stamps(estimates["family"], snakemake.params.stamp)
    ESTIMATES.write(snakemake.output.estimates, estimates)
    for line in unanswered(estimates):
        log.warning(line)
