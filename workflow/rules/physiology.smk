# Heart rate, respiration and EMG per script, from the recordings beside a scan.


rule score_physiology:
    input:
        physio=raw("physio"),
        events=raw("events"),
    output:
        **made("score_physiology"),
    log:
        layout.log("score_physiology"),
    conda:
        ENVIRONMENT
    resources:
        **needs("score_physiology", mem_mb=1500, runtime=20),
    params:
        raw=raw_content("physio", "events"),
        sidecars=recording_facts,
        settings=settings_of(study.physiology),
        task=lambda wildcards: settings_of(study.tasks[wildcards.task]),
        code=code_of("score_physiology"),
    script:
        "../scripts/score_physiology.py"
