# Numbers and pictures per run, the automatic exclusions, and whether a person's sessions are alike: all of it
# decided here, before and without the arms.


rule assess_quality:
    input:
        bold=ancient(preprocessed.bold),
        mask=ancient(preprocessed.mask),
        dseg=ancient(preprocessed.dseg),
        metadata=preprocessed.metadata,
        confounds=preprocessed.confounds,
        coverage=rules.extract_region_signals.output.coverage,
        boldref=ancient(aligned["boldref"]),
        boldref_mask=ancient(aligned["mask"]),
        alignment=aligned["alignment"],
        t1w=ancient(aligned["t1w"]),
        facts=anatomies["facts"],
        regions=rules.carry_atlas.output.masks,
        events=raw("events"),
        exclusions=rules.extract_region_signals.output.exclusions,
    output:
        **made("assess_quality"),
    log:
        layout.log("assess_quality"),
    conda:
        ENVIRONMENT
    resources:
        **needs("assess_quality", mem_mb=1500, runtime=20),
    params:
        raw=raw_content("events"),
        encoding=encoding_of,
        settings=settings_of(study.quality),
        rois=settings_of(study.rois),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        code=code_of("assess_quality"),
    script:
        "../scripts/assess_quality.py"


rule compare_sessions:
    # What only a person's other runs can tell: a brain mask that lost volume, another person's head.
    input:
        measures=lambda wildcards: of_runs(rules.assess_quality.output.measures, person=wildcards.sub),
    output:
        **made("compare_sessions"),
    log:
        layout.log("compare_sessions"),
    conda:
        ENVIRONMENT
    resources:
        **needs("compare_sessions", mem_mb=500, runtime=10),
    params:
        settings=settings_of(study.quality),
        code=code_of("compare_sessions"),
    script:
        "../scripts/compare_sessions.py"


rule audit_sessions:
    # Protocol, fieldmap, anatomical reference, transforms and confounds, compared over each person's sessions.
    input:
        runs=ancient("config/runs.tsv"),
        metadata=of_runs(preprocessed.metadata),
        confounds=of_runs(preprocessed.confounds),
    output:
        **made("audit_sessions"),
    log:
        layout.log("audit_sessions"),
    conda:
        ENVIRONMENT
    resources:
        **needs("audit_sessions", mem_mb=500, runtime=20),
    params:
        root=bids_root,  # a Path is no setting: Snakemake does not record it
        raw=lambda wildcards: {
            bold: contents.of(bids_root / bold) for bold in scans_of("assess_quality")["bold"]
        },
        scans=facts_of_runs(),
        protocols=lambda wildcards: {
            bold: protocol_of(metadata_of(bold)) for bold in scans_of("assess_quality")["bold"]
        },
        code=code_of("audit_sessions"),
    script:
        "../scripts/audit_sessions.py"
