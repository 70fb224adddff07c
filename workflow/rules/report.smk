# The report: one offline page with the question, the flow of scans, quality, regions, estimates and methods.

truth = bids_root / "truth.json"
everybody = bids_root / "participants.tsv"
record_file = Path("config/index.json")


rule build_report:
    input:
        config=ancient("config/config.yaml"),
        runs=ancient("config/runs.tsv"),
        measures=rules.stack_measures.output.measures,
        exclusions=rules.stack_exclusions.output.exclusions,
        parity=rules.audit_sessions.output.parity,
        regions=rules.carry_atlas.output.masks,
        region_table=rules.carry_atlas.output.table,
        outlines=of_runs(rules.assess_quality.output.outlines),
        edges=of_runs(rules.assess_quality.output.edges),
        metadata=of_runs(preprocessed.metadata),
        designs=of_runs(rules.fit_first_level.output.design, "fit_first_level"),
        scripts=of_runs(rules.fit_first_level.output.scripts, "fit_first_level"),
        maps=map_files(),
        allocation=allocation_table(),
        codes=codes_table,
        participants=[ancient(str(everybody))] if everybody.is_file() else [],
        record=[ancient("config/index.json")] if record_file.is_file() else [],
        tables=group_tables(),
        voxel_images=voxel_images(),
        truth=[ancient(str(truth))] if truth.is_file() else [],
    output:
        **made("build_report"),
    log:
        layout.log("build_report"),
    conda:
        ENVIRONMENT
    resources:
        **needs("build_report", mem_mb=2000, runtime=20),
    params:
        raw=lambda wildcards: content_of(["config/runs.tsv", truth, record_file, everybody])
        + group_content(wildcards),
        conduct=lambda wildcards: conduct_now(),
        settings=study.model_dump(mode="json", exclude={"bids"}),
        code=code_of("build_report"),
    script:
        "../scripts/build_report.py"
