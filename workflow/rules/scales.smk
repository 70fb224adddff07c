# Clinical scales from phenotype/, scored and in long form.


rule score_scale:
    input:
        phenotype=lambda wildcards: ancient(str(phenotype_of(wildcards))),
    output:
        **made("score_scale"),
    log:
        layout.log("score_scale"),
    conda:
        ENVIRONMENT
    resources:
        **needs("score_scale", mem_mb=1000, runtime=10),
    params:
        raw=lambda wildcards: content_of([phenotype_of(wildcards)]),
        settings=lambda wildcards: settings_of(study.scales[wildcards.scale]),
        sessions=[session.id for session in study.sessions],
        people=people,
        decided=decided_units,
        code=code_of("score_scale"),
    script:
        "../scripts/score_scale.py"
