# From raw images to the template grid: anatomy once per person, then alignment and one interpolation per run.


rule prepare_anatomy:
    # One T1w per person from those of all sessions; bias field, brain mask, tissue, map from template to T1w.
    input:
        t1w=lambda wildcards: [ancient(image) for image in t1w_images(wildcards)],
    output:
        **made("prepare_anatomy"),
    log:
        layout.log("prepare_anatomy"),
    conda:
        ENVIRONMENT
    resources:
        **needs("prepare_anatomy", mem_mb=4000, runtime=60),
    params:
        sha256=lambda wildcards: content_of(t1w_images(wildcards)),
        template=lambda wildcards: content_of([target_brain()]),
        settings=settings_of(study.preprocessing),
        code=code_of("prepare_anatomy"),
    script:
        "../scripts/prepare_anatomy.py"


rule align_run:
    # Non-steady-state volumes, head motion, distortion, brain mask of the reference volume, EPI to T1w.
    input:
        bold=raw("bold"),
        t1w=ancient(rules.prepare_anatomy.output.t1w),
        mask=ancient(rules.prepare_anatomy.output.mask),
        dseg=ancient(rules.prepare_anatomy.output.dseg),
        to_t1w=ancient(rules.prepare_anatomy.output.to_t1w),
        facts=rules.prepare_anatomy.output.facts,
        fieldmap=lambda wildcards: (
            [ancient(image) for image in field.files.values()] if (field := fieldmap_for(wildcards)) else []
        ),
        exclusions=rules.prepare_anatomy.output.exclusions,
    output:
        **made("align_run"),
    log:
        layout.log("align_run"),
    conda:
        ENVIRONMENT
    resources:
        **needs("align_run", mem_mb=3000, runtime=60),
    params:
        t1w=lambda wildcards: scan_of(wildcards).t1w,
        sidecar=sidecar_of,
        fieldmap=fieldmap_params,
        sha256=lambda wildcards: raw_content("bold")(wildcards)["bold"],
        code=code_of("align_run"),
    script:
        "../scripts/align_run.py"


rule resample_run:
    # One interpolation to the template grid, and the confounds.
    input:
        bold=raw("bold"),
        t1w=ancient(rules.prepare_anatomy.output.t1w),
        anatomy_mask=ancient(rules.prepare_anatomy.output.mask),
        dseg=ancient(rules.prepare_anatomy.output.dseg),
        to_t1w=ancient(rules.prepare_anatomy.output.to_t1w),
        facts=rules.prepare_anatomy.output.facts,
        boldref=ancient(rules.align_run.output.boldref),
        mask=ancient(rules.align_run.output.mask),
        alignment=rules.align_run.output.alignment,
        displacement=ancient(rules.align_run.output.displacement),
        exclusions=rules.align_run.output.exclusions,
    output:
        **made("resample_run"),
    log:
        layout.log("resample_run"),
    conda:
        ENVIRONMENT
    resources:
        **needs("resample_run", mem_mb=3000, runtime=60),
    params:
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        raw=raw_content("bold"),
        sidecar=sidecar_of,
        settings=settings_of(study.preprocessing),
        code=code_of("resample_run"),
    script:
        "../scripts/resample_run.py"


# What later rules read, by the names that every engine's file gives it.
anatomies = {name: getattr(rules.prepare_anatomy.output, name) for name in ANATOMY_PARTS}
preprocessed = rules.resample_run.output
aligned = {
    "boldref": rules.align_run.output.boldref,
    "mask": rules.align_run.output.mask,
    "alignment": rules.align_run.output.alignment,
    "t1w": rules.prepare_anatomy.output.t1w,
}
template_images = []  # the grid is that of preprocessing.resolution
