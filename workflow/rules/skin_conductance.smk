# Scores per script from the skin conductance recorded in the scanner, with a picture of each recording.


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
        **needs("score_skin_conductance", mem_mb=1000, runtime=20),
    params:
        raw=raw_content("physio", "events"),
        sidecars=recording_facts,
        settings=settings_of(study.skin_conductance),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        tr=lambda wildcards: float(scan_of(wildcards).tr),
        code=code_of("score_skin_conductance"),
    script:
        "../scripts/score_skin_conductance.py"
