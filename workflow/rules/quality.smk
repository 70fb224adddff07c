# Numbers and pictures per run, and the automatic exclusions: decided here, before and without the arms.


rule assess_quality:
    input:
        bold=rules.resample_run.output.bold,
        mask=rules.resample_run.output.mask,
        dseg=rules.resample_run.output.dseg,
        metadata=rules.resample_run.output.metadata,
        confounds=rules.resample_run.output.confounds,
        coverage=rules.extract_region_signals.output.coverage,
        boldref=rules.align_run.output.boldref,
        boldref_mask=rules.align_run.output.mask,
        alignment=rules.align_run.output.alignment,
        t1w=rules.prepare_anatomy.output.t1w,
        regions=rules.carry_atlas.output.masks,
        events=lambda wildcards: raw("events")(wildcards) if scan_of(wildcards).events != "n/a" else [],
        exclusions=rules.extract_region_signals.output.exclusions,
    output:
        measures=run_file(desc="quality", suffix="measures", ext=".tsv"),
        outlines=run_file(desc="outlines", suffix="bold", ext=".png"),
        edges=run_file(desc="edges", suffix="bold", ext=".png"),
        carpet=run_file(desc="carpet", suffix="bold", ext=".png"),
        tsnr=run_file(desc="tsnr", suffix="bold", ext=".png"),
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
        rois=settings_of(study.rois),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        code=code_of("quality"),
        drawing=code_of("figures.scans"),
    script:
        "../scripts/assess_quality.py"
