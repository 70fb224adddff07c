# One page per participant, for the lab: pictures and numbers of the preprocessing. Without the arms, like all before.
decided = exclusion_tables()


rule describe_participant:
    input:
        t1w=rules.prepare_anatomy.output.t1w,
        mask=rules.prepare_anatomy.output.mask,
        dseg=rules.prepare_anatomy.output.dseg,
        to_t1w=rules.prepare_anatomy.output.to_t1w,
        facts=rules.prepare_anatomy.output.facts,
        regions=rules.carry_atlas.output.masks,
        measures=of_person(rules.assess_quality.output.measures),
        alignments=of_person(rules.align_run.output.alignment),
        outlines=of_person(rules.assess_quality.output.outlines),
        edges=of_person(rules.assess_quality.output.edges),
        carpet=of_person(rules.assess_quality.output.carpet),
        tsnr=of_person(rules.assess_quality.output.tsnr),
        decided=lambda wildcards: [table for table in decided if f"/sub-{wildcards.sub}/" in table],
        index="config/exclusions.tsv",
    output:
        page="results/participants/sub-{sub}.html",
        picture=anatomy_file(desc="regions", suffix="T1w", ext=".png"),
    log:
        "logs/describe_participant/sub-{sub}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        settings=settings_of(study.quality),
        rois=settings_of(study.rois),
        scans=lambda wildcards: facts_of(scans_of_person[wildcards.sub]),
        sessions={session.id: session.name for session in study.sessions},
        code=code_of("report.participants"),
    script:
        "../scripts/describe_participant.py"


rule list_participants:
    input:
        pages=expand(rules.describe_participant.output.page, sub=scans_of_person),
        measures=of_runs(rules.assess_quality.output.measures),
        decided=decided,
        index="config/exclusions.tsv",
    output:
        page="results/participants/index.html",
    log:
        "logs/list_participants/study.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        scans=facts_of(scans[scans["task"].isin(list(study.tasks))].itertuples()),
        sessions={session.id: session.name for session in study.sessions},
        code=code_of("report.participants"),
    script:
        "../scripts/list_participants.py"
