# Numbers and pictures per run, and the automatic exclusions: decided here, before and without the arms.


rule assess_quality:
    input:
        bold=preprocessed.bold,
        mask=preprocessed.mask,
        dseg=preprocessed.dseg,
        metadata=preprocessed.metadata,
        confounds=preprocessed.confounds,
        coverage=rules.extract_region_signals.output.coverage,
        boldref=aligned["boldref"],
        boldref_mask=aligned["mask"],
        alignment=aligned["alignment"],
        t1w=aligned["t1w"],
        exclusions=rules.extract_region_signals.output.exclusions,
    output:
        measures=run_file(desc="quality", suffix="measures", ext=".tsv"),
        outlines=run_file(desc="outlines", suffix="bold", ext=".png"),
        edges=run_file(desc="edges", suffix="bold", ext=".png"),
        exclusions=run_file(desc="quality", suffix="exclusions", ext=".tsv"),
    log:
        log_of("assess_quality"),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=20,
    params:
        settings=settings_of(study.quality),
        code=code_of("quality"),
        drawing=code_of("figures"),
    script:
        "../scripts/assess_quality.py"
