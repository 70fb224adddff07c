"""The report of a study: one offline page, and its headline as one line of text."""

from pathlib import Path

from reconfmri.jobs import job
from reconfmri.report import Codes, ReportFiles, compose, gather, headline, write_key
from reconfmri.report.flow import diagram
from reconfmri.trial.flow import FLOW, unreconciled

with job(snakemake) as log:
    inputs = gather(ReportFiles.of(snakemake.input.items()))
    Path(snakemake.output.report).write_text(compose(inputs), encoding="utf-8")
    write_key(Path(snakemake.output.codes), Codes.of(inputs))
    FLOW.write(snakemake.output.flow, inputs.flow)
    Path(snakemake.output.flow_diagram).write_text(diagram(inputs), encoding="utf-8")
    for fault in unreconciled(inputs.flow, inputs.tables.get("estimates"), inputs.study):
        log.warning("the flow does not reconcile: %s", fault)
    study, line = inputs.study, f"{inputs.study.name}: {len(inputs.runs)} scans, no arms to compare"
    if study.group:
        names = {session.id: session.name for session in study.sessions}
        baseline = study.sessions[0].id if study.sessions else None
        estimates = inputs.tables["estimates"]
        line = headline(estimates, study.group, inputs.truth, sessions=names, baseline=baseline)
    Path(snakemake.output.headline).write_text(line + "\n", encoding="utf-8")
    log.info(line)
