# The report: one offline page with the question, the flow of scans, quality, regions, estimates and methods.

truth = bids_root / "truth.json"


rule build_report:
    input:
        config=ancient("config/config.yaml"),
        runs=ancient("config/runs.tsv"),
        measures=rules.stack_measures.output.measures,
        exclusions=rules.stack_exclusions.output.exclusions,
        parity=rules.audit_sessions.output.parity,
        regions=rules.carry_atlas.output.masks,
        region_table=rules.carry_atlas.output.table,
        outlines=of_runs(rules.assess_quality.output.outlines),
        edges=of_runs(rules.assess_quality.output.edges),
        metadata=of_runs(preprocessed.metadata),
        designs=of_runs(rules.fit_first_level.output.design, "fit_first_level"),
        maps=map_files(),
        allocation=allocation_table(),
        estimates=rules.collect_estimates.output.estimates if study.group else [],
        diagnostics=rules.fit_bayesian_models.output.diagnostics if study.group else [],
        reliability=rules.fit_frequentist_models.output.reliability if study.group else [],
        moderation=rules.fit_frequentist_models.output.moderation if study.group else [],
        pooled=rules.fit_frequentist_models.output.pooled if study.group else [],
        left_out=rules.fit_frequentist_models.output.left_out if study.group else [],
        controls=rules.fit_frequentist_models.output.controls if study.group else [],
        draws=rules.test_by_randomisation.output.draws if study.group else [],
        seen=rules.examine_missing_visits.output.seen if study.group else [],
        reference_based=rules.examine_missing_visits.output.reference if study.group else [],
        tipping_grid=rules.examine_missing_visits.output.grid if study.group else [],
        tipping=rules.examine_missing_visits.output.tipping if study.group else [],
        predictions=rules.fit_bayesian_models.output.predictions if study.group else [],
        sensitivity=rules.fit_bayesian_models.output.sensitivity if study.group else [],
        joint=rules.fit_bayesian_models.output.joint if study.group else [],
        truth=[ancient(str(truth))] if truth.is_file() else [],
    output:
        **made("build_report"),
    log:
        layout.log("build_report"),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        raw=lambda wildcards: content_of(["config/runs.tsv", truth]) + group_content(wildcards),
        settings=study.model_dump(mode="json", exclude={"bids"}),
        code=code_of("build_report"),
    script:
        "../scripts/build_report.py"
