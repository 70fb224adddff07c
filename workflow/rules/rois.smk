# The regions on the template grid, once; their mean signal and coverage, per run.


rule carry_atlas:
    # Atlas probabilities, spheres, masks and maps, those in MNI152NLin6Asym carried into the target space.
    input:
        grid=ancient(str(template_images[0])) if template_images else [],
        sources=[ancient(file) for file in study.rois.files],
    output:
        **made("carry_atlas"),
    log:
        layout.log("carry_atlas"),
    conda:
        ENVIRONMENT
    resources:
        **needs("carry_atlas", mem_mb=4000, runtime=30),
    params:
        regions={
            "atlases": {name: atlas.model_dump(mode="json") for name, atlas in study.rois.atlases.items()},
            "regions": {name: region.model_dump(mode="json") for name, region in study.rois.regions.items()},
        },
        resolution=study.preprocessing.resolution,
        atlas=lambda wildcards: content_of(
            [harvard_oxford()[0], nlin6_brain(), target_brain(), *template_images]
        ),
        sources=lambda wildcards: content_of(study.rois.files),
        code=code_of("carry_atlas"),
    script:
        "../scripts/carry_atlas.py"


rule extract_region_signals:
    # Mean signal of each region inside the run's mask, unsmoothed, with coverage and temporal SNR.
    input:
        bold=ancient(preprocessed.bold),
        mask=ancient(preprocessed.mask),
        metadata=preprocessed.metadata,
        regions=rules.carry_atlas.output.masks,
        segmentation=segmentation_files,
        exclusions=preprocessed.exclusions,
    output:
        **made("extract_region_signals"),
    log:
        layout.log("extract_region_signals"),
    conda:
        ENVIRONMENT
    resources:
        **needs("extract_region_signals", mem_mb=1500, runtime=20),
    params:
        settings=settings_of(study.rois),
        segmentation=segmentation_asked,
        root=Path(segmented.derivatives if segmented else ""),  # a Path is no setting: Snakemake does not record it
        code=code_of("extract_region_signals"),
    script:
        "../scripts/extract_region_signals.py"
