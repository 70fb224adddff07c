# A response score per script from the skin conductance recorded in the scanner.


rule score_skin_conductance:
    input:
        physio=raw("physio"),
        events=raw("events"),
    output:
        **made("score_skin_conductance"),
    log:
        layout.log("score_skin_conductance"),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        raw=raw_content("physio", "events"),
        sidecar=lambda wildcards: recording_facts(
            metadata_of(scan_of(wildcards).physio), study.skin_conductance.column
        ),
        settings=settings_of(study.skin_conductance),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        code=code_of("score_skin_conductance"),
    script:
        "../scripts/score_skin_conductance.py"
