# Connectivity of region pairs: correlation within conditions, and contrasts by deconvolution.


rule estimate_connectivity:
    input:
        signals=rules.extract_region_signals.output.signals,
        confounds=preprocessed.confounds,
        metadata=preprocessed.metadata,
        events=lambda wildcards: raw("events")(wildcards) if study.tasks[wildcards.task].conditions else [],
        exclusions=[rules.assess_quality.output.exclusions, rules.compare_sessions.output.exclusions],
    output:
        **made("estimate_connectivity"),
    log:
        layout.log("estimate_connectivity"),
    conda:
        ENVIRONMENT
    resources:
        **needs("estimate_connectivity", mem_mb=1000, runtime=20),
    params:
        raw=lambda wildcards: (
            raw_content("events")(wildcards) if study.tasks[wildcards.task].conditions else {}
        ),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        settings=settings_of(study.connectivity),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        code=code_of("estimate_connectivity"),
    script:
        "../scripts/estimate_connectivity.py"
