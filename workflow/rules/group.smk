# The arms meet the measures, here and nowhere before: one model for every outcome, by two methods.


rule fit_frequentist_models:
    # REML and least squares; moderation, pooled effects, negative controls, reliability; who is in neither arm.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        participants=participants_table(),
    output:
        estimates="results/group/frequentist_estimates.tsv",
        reliability="results/group/reliability.tsv",
        controls="results/group/controls.tsv",
        moderation="results/group/moderation.tsv",
        pooled="results/group/pooled.tsv",
        left_out="results/group/exclusions.tsv",
    log:
        "logs/fit_frequentist_models/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        raw=group_content,
        settings=settings_of(study.group),
        sessions=[session.id for session in study.sessions],
        code=code_of("fit_frequentist_models"),
    script:
        "../scripts/fit_frequentist_models.py"


rule test_by_randomisation:
    # Draws of the same allocation, within its strata.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        participants=participants_table(),
    output:
        estimates="results/group/randomisation_estimates.tsv",
        draws="results/group/randomisation_draws.tsv",
    log:
        "logs/test_by_randomisation/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        raw=group_content,
        settings=settings_of(study.group),
        sessions=[session.id for session in study.sessions],
        seed=study.seed,
        code=code_of("test_by_randomisation"),
    script:
        "../scripts/test_by_randomisation.py"


rule examine_missing_visits:
    # Patterns, completers, and how far the unseen would have to differ for the primary answer to tip.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        participants=participants_table(),
        events=(study.group.intercurrent_events or []) if study.group else [],
    output:
        seen="results/group/visits_seen.tsv",
        patterns="results/group/missing_patterns.tsv",
        completers="results/group/completers.tsv",
        reference="results/group/reference_based.tsv",
        grid="results/group/tipping_grid.tsv",
        tipping="results/group/tipping.tsv",
    log:
        "logs/examine_missing_visits/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        raw=group_content,
        settings=settings_of(study.group),
        sessions=[session.id for session in study.sessions],
        code=code_of("examine_missing_visits"),
    script:
        "../scripts/examine_missing_visits.py"


rule fit_bayesian_models:
    # Every outcome by the model compiled once, the primary question under other choices, and pairs of outcomes.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        participants=participants_table(),
    output:
        estimates="results/group/bayesian_estimates.tsv",
        diagnostics="results/group/bayesian_diagnostics.tsv",
        predictions="results/group/predictions.tsv",
        sensitivity="results/group/sensitivity.tsv",
        joint="results/group/joint.tsv",
    log:
        "logs/fit_bayesian_models/study.log",
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        mem_mb=3000,
        runtime=60,
    params:
        raw=group_content,
        settings=settings_of(study.group),
        sessions=[session.id for session in study.sessions],
        seed=study.seed,
        code=code_of("fit_bayesian_models"),
    script:
        "../scripts/fit_bayesian_models.py"


rule collect_estimates:
    # Both methods on one answer sheet, corrected within the declared families.
    input:
        estimates=[
            rules.fit_bayesian_models.output.estimates,
            rules.fit_frequentist_models.output.estimates,
            rules.test_by_randomisation.output.estimates,
        ],
    output:
        estimates=report("results/estimates.tsv", caption="../report/estimates.rst", category="Tables"),
        description="results/estimates.json",
    log:
        "logs/collect_estimates/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings_of(study.group),
        code=code_of("collect_estimates"),
    script:
        "../scripts/collect_estimates.py"
