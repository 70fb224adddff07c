# From a BIDS trial to arm contrasts and a report. A contents page: which step follows which.
# The study is config/config.yaml, its scans are config/runs.tsv (made by `reconfmri index`).
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: f"workflow/rules/preprocess_{study.preprocessing.engine}.smk"
include: "workflow/rules/rois.smk"
include: "workflow/rules/quality.smk"
include: "workflow/rules/first_level.smk"
include: "workflow/rules/connectivity.smk"
include: "workflow/rules/skin_conductance.smk"
include: "workflow/rules/physiology.smk"
include: "workflow/rules/scales.smk"
include: "workflow/rules/measures.smk"
include: "workflow/rules/participants.smk"
include: "workflow/rules/group.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.stack_measures.output.measures,
        rules.stack_exclusions.output.exclusions,
        rules.audit_sessions.output.parity,
        rules.build_report.output.report,
        rules.describe_derivatives.output,
        rules.describe_participants.output,
        rules.collect_estimates.output.estimates if study.group else [],


rule all_participant:
    input:
        measure_tables(),
        map_files(),
        exclusion_tables(),
        rules.describe_derivatives.output,
        rules.describe_participants.output,
        # Where only some are asked for, others may be at work beside: no table of some.
        [] if set(config) & set(FILTERS.values()) else rules.stack_exclusions.output,
