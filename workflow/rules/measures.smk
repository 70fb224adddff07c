# The funnel: every producer's rows as one table, every exclusion as another. Still without the arms.


rule stack_measures:
    # The books are checked on the way: what is expected and neither measured nor excluded stops the study here.
    input:
        **run_measures(),
        scales=of_scales("measures"),
        index=ancient(DECIDED_TABLE),
        exclusions=exclusion_tables(),
    output:
        **made("stack_measures"),
    log:
        layout.log("stack_measures"),
    conda:
        ENVIRONMENT
    resources:
        **needs("stack_measures", mem_mb=1000, runtime=20),
    params:
        whole=whole_study,
        outcomes=outcomes_of_runs(study),
        units=units_of_tables(),
        people=people,
        sessions=[session.id for session in study.sessions] or ["n/a"],
        decided=decided_units,
        regions={name: sorted(outcome.regions) for name, outcome in study.outcomes.items()},
        scales=[[f"{name}.{score}" for score in scale.scores] for name, scale in study.scales.items()],
        code=code_of("stack_measures"),
    script:
        "../scripts/stack_measures.py"


rule stack_exclusions:
    input:
        exclusions=exclusion_tables(),
        decided=decided_tables,
    output:
        **made("stack_exclusions"),
    log:
        layout.log("stack_exclusions"),
    conda:
        ENVIRONMENT
    resources:
        **needs("stack_exclusions", mem_mb=500, runtime=10),
    params:
        whole=whole_study,
        decided=lambda wildcards: content_of(decided_tables),
        code=code_of("stack_exclusions"),
    script:
        "../scripts/stack_exclusions.py"


rule describe_derivatives:
    # First of all jobs, so that whoever looks in meanwhile knows what it is. No rule takes it as input: a job that
    # waits for another is not asked whether its own parameters have changed.
    output:
        **made("describe_derivatives"),
    log:
        layout.log("describe_derivatives"),
    priority: 1000
    localrule: True
    conda:
        ENVIRONMENT
    resources:
        **needs("describe_derivatives", mem_mb=500, runtime=10),
    params:
        name=study.name,
        code=code_of("describe_derivatives"),
    script:
        "../scripts/describe_derivatives.py"
