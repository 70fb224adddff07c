# Script-driven activation: the design, and contrasts per region in percent signal change with their standard error.


rule fit_first_level:
    input:
        signals=rules.extract_region_signals.output.signals,
        coverage=rules.extract_region_signals.output.coverage,
        confounds=preprocessed.confounds,
        metadata=preprocessed.metadata,
        events=raw("events"),
        exclusions=[rules.assess_quality.output.exclusions, rules.compare_sessions.output.exclusions],
    output:
        **made("fit_first_level"),
    log:
        layout.log("fit_first_level"),
    conda:
        ENVIRONMENT
    resources:
        **needs("fit_first_level", mem_mb=1000, runtime=20),
    params:
        raw=raw_content("events"),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        settings=settings_of(study.first_level),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        code=code_of("fit_first_level"),
    script:
        "../scripts/fit_first_level.py"


rule estimate_maps:
    # Voxelwise effect, variance and z of the contrasts that the study file asks maps for.
    input:
        bold=ancient(preprocessed.bold),
        mask=ancient(preprocessed.mask),
        metadata=preprocessed.metadata,
        events=raw("events"),
        design=rules.fit_first_level.output.design,
        exclusions=rules.fit_first_level.output.exclusions,
    output:
        maps=layout.maps(study.first_level.maps if study.first_level else []),
        exclusions=layout.path("estimate_maps", "exclusions"),
    log:
        layout.log("estimate_maps"),
    conda:
        ENVIRONMENT
    resources:
        **needs("estimate_maps", mem_mb=8000, runtime=60),
    params:
        raw=raw_content("events"),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        settings=settings_of(study.first_level),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        code=code_of("estimate_maps"),
    script:
        "../scripts/estimate_maps.py"
