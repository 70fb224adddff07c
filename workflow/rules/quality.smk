# Numbers and pictures per run, the automatic exclusions, and whether a person's sessions are alike: all of it
# decided here, before and without the arms.


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
        bids=str(bids_root),
        bold=lambda wildcards: scan_of(wildcards).bold,
        settings=settings_of(study.quality),
        rois=settings_of(study.rois),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        code=code_of("quality", "measures"),
        drawing=code_of("figures.scans"),
    script:
        "../scripts/assess_quality.py"


rule compare_sessions:
    # What only a person's other sessions can tell: a brain mask that lost volume.
    input:
        measures=lambda wildcards: of_runs(rules.assess_quality.output.measures, person=wildcards.sub),
    output:
        exclusions=person_file(desc="sessions", suffix="exclusions", ext=".tsv"),
    log:
        "logs/compare_sessions/sub-{sub}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=settings_of(study.quality),
        code=code_of("quality"),
    script:
        "../scripts/compare_sessions.py"


rule audit_sessions:
    # Protocol, fieldmap, anatomical reference, transforms and confounds, compared over each person's sessions.
    input:
        runs="config/runs.tsv",
        metadata=of_runs(preprocessed.metadata),
        confounds=of_runs(preprocessed.confounds),
    output:
        parity=report("results/parity.tsv", caption="../report/parity.rst", category="Tables"),
        description="results/parity.json",
    log:
        "logs/audit_sessions/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=20,
    params:
        bids=str(bids_root),
        bold=list(scans_with()["bold"]),
        code=code_of("parity"),
    script:
        "../scripts/audit_sessions.py"
