# The arms meet the measures, here and nowhere before: one model for every outcome, by two methods. Which rule makes
# which tables is declared in reconfmri.contracts.questions.


rule fit_frequentist_models:
    # REML and least squares; moderation, pooled effects, negative controls, reliability; who is in neither arm.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        codes=codes_table,
        participants=participants_table(),
        adverse_events=adverse_events_table(),
    output:
        **made("fit_frequentist_models"),
    log:
        layout.log("fit_frequentist_models"),
    conda:
        ENVIRONMENT
    resources:
        **needs("fit_frequentist_models", mem_mb=1000, runtime=20),
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
        codes=codes_table,
        participants=participants_table(),
    output:
        **made("test_by_randomisation"),
    log:
        layout.log("test_by_randomisation"),
    conda:
        ENVIRONMENT
    resources:
        **needs("test_by_randomisation", mem_mb=2000, runtime=20),
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
        codes=codes_table,
        participants=participants_table(),
        events=(study.group.intercurrent_events or []) if study.group else [],
    output:
        **made("examine_missing_visits"),
    log:
        layout.log("examine_missing_visits"),
    conda:
        ENVIRONMENT
    resources:
        **needs("examine_missing_visits", mem_mb=1000, runtime=20),
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
        codes=codes_table,
        participants=participants_table(),
    output:
        **made("fit_bayesian_models"),
    log:
        layout.log("fit_bayesian_models"),
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **needs("fit_bayesian_models", mem_mb=3000, runtime=60),
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
            rules.fit_bayesian_models.output.bayesian_estimates,
            rules.fit_frequentist_models.output.frequentist_estimates,
            rules.test_by_randomisation.output.randomisation_estimates,
        ],
    output:
        **made("collect_estimates"),
    log:
        layout.log("collect_estimates"),
    conda:
        ENVIRONMENT
    resources:
        **needs("collect_estimates", mem_mb=500, runtime=10),
    params:
        stamp=lambda wildcards: stamp_now().word,
        settings=settings_of(study.group),
        code=code_of("collect_estimates"),
    script:
        "../scripts/collect_estimates.py"


rule compare_maps:
    # Contrasts in every voxel, by one model, with all visits of a person as one block of every draw.
    input:
        measures=rules.stack_measures.output.measures,
        allocation=allocation_table(),
        codes=codes_table,
        participants=participants_table(),
        effects=compared_maps("effect"),
        variances=compared_maps("variance"),
        regions=rules.carry_atlas.output.masks,
        region_table=rules.carry_atlas.output.table,
    output:
        **made("compare_maps"),
        images=voxel_images(),
        described=[path.removesuffix(".nii.gz") + ".json" for path in voxel_images()],
    log:
        layout.log("compare_maps"),
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **needs("compare_maps", mem_mb=4000, runtime=120),
    params:
        raw=group_content,
        settings=settings_of(study.group),
        rois=settings_of(study.rois),
        scans=units_of("estimate_maps"),
        sessions=[session.id for session in study.sessions],
        seed=study.seed,
        code=code_of("compare_maps"),
    script:
        "../scripts/compare_maps.py"
