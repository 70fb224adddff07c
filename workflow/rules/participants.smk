# One page per participant, for the lab: pictures and numbers of the preprocessing. Without the arms, like all before.


rule describe_participants:
    # One job for all: a page costs less than the start of a job.
    input:
        # The facts of an anatomy hold the sha256 of its images.
        **{
            name: [file if name == "facts" else ancient(file) for file in of_people(pattern)]
            for name, pattern in anatomies.items()
        },
        **recorded(),
        regions=rules.carry_atlas.output.masks,
        measures=of_runs(rules.assess_quality.output.measures),
        alignments=of_runs(aligned["alignment"]) if aligned["alignment"] else [],
        outlines=of_runs(rules.assess_quality.output.outlines),
        edges=of_runs(rules.assess_quality.output.edges),
        carpet=of_runs(rules.assess_quality.output.carpet),
        tsnr=of_runs(rules.assess_quality.output.tsnr),
        decided=[*decided_tables, *exclusion_tables()],
    output:
        pages=of_people(layout.path("describe_participants", "pages")),
        pictures=of_people(layout.path("describe_participants", "pictures")),
        # Where only some people are asked for, others may be at work beside: no index of some.
        index=[] if "only_participants" in config else [layout.path("describe_participants", "index")],
        cockpit=[] if "only_participants" in config else [layout.path("describe_participants", "cockpit")],
    log:
        layout.log("describe_participants"),
    conda:
        ENVIRONMENT
    resources:
        **needs("describe_participants", mem_mb=1500, runtime=30),
    params:
        settings=settings_of(study.quality),
        rois=settings_of(study.rois),
        name=study.name,
        scans=facts_of_runs(),
        recorded=places_of_recorded(),
        decided=lambda wildcards: content_of(decided_tables),
        sessions={session.id: session.name for session in study.sessions},
        code=code_of("describe_participants"),
    script:
        "../scripts/describe_participants.py"
