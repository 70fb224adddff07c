# fMRIPrep: run in a container, one job per participant, or done already; then its outputs are taken over by links.
from reconfmri.derivatives import (
    check_fmriprep,
    container_places,
    files_of_anatomy,
    files_of_run,
    grid_image,
)
from reconfmri.problems import stops

fmriprep = study.preprocessing.fmriprep
job = fmriprep.container  # None: the outputs exist

if workflow.is_main_process:
    faults = stops(check_fmriprep(Path(), study, every_scan))
    if faults:
        raise WorkflowError("\n".join(problem.line for problem in faults))


rule run_fmriprep:
    # One participant, all of whose raw images fMRIPrep reads; the work directory stays for the next attempt.
    input:
        raw=lambda wildcards: [
            ancient(str(bids_root / name))
            for scan in every_scan[every_scan["participant_id"] == f"sub-{wildcards.sub}"].itertuples()
            for name in (scan.bold, scan.t1w)
        ],
        image=ancient(job.image) if job and Path(job.image).is_file() else [],
    output:
        **made("run_fmriprep"),
    log:
        layout.log("run_fmriprep"),
        words="logs/run_fmriprep/sub-{sub}_fmriprep.log",
    retries: 2
    conda:
        ENVIRONMENT
    threads: job.threads if job else 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * job.memory * attempt,
        runtime=lambda wildcards, attempt: 60 * job.hours * attempt,
    params:
        **{name: Path(place) for name, place in container_places(study).items()},
        raw=lambda wildcards: {
            path: contents.of(bids_root / path) for path in read_by_fmriprep(wildcards.sub)
        },
        asked={"res": fmriprep.asked_res, **job.model_dump(include={"runtime", "options"})} if job else None,
        image=image_content,
        # A Path is no setting: Snakemake does not record it.
        code=code_of("run_fmriprep"),
    script:
        "../scripts/run_fmriprep.py"


rule adopt_fmriprep_run:
    # Links to the series, mask, reference and T1w; confounds, tissue and metadata in the form of every engine.
    input:
        # The record of the participant's job, or the outputs that exist.
        made=lambda wildcards: (
            rules.run_fmriprep.output.record.format(sub=wildcards.sub)
            if job
            else adopted(files_of_run(Path(), fmriprep, scan_of(wildcards).bold))
        ),
    output:
        **made("adopt_fmriprep_run"),
    log:
        layout.log("adopt_fmriprep_run"),
    conda:
        ENVIRONMENT
    resources:
        **needs("adopt_fmriprep_run", mem_mb=3000, runtime=20),
    params:
        scan=lambda wildcards: {
            "raw": scan_of(wildcards).bold,
            "tr": float(scan_of(wildcards).tr),
            "n_volumes": int(scan_of(wildcards).n_volumes),
        },
        made=lambda wildcards: (
            [] if job else content_of(files_of_run(Path(), fmriprep, scan_of(wildcards).bold))
        ),
        asked=adoption,
        root=Path(fmriprep.derivatives),  # a Path is no setting: Snakemake does not record it
        code=code_of("adopt_fmriprep_run"),
    script:
        "../scripts/adopt_fmriprep_run.py"


rule adopt_fmriprep_anatomy:
    # Links to the T1w and brain mask in the template's space, and the tissue, for the participant's page.
    input:
        made=lambda wildcards: (
            rules.run_fmriprep.output.record.format(sub=wildcards.sub)
            if job
            else adopted(files_of_anatomy(Path(), fmriprep, scans_of_anatomy(wildcards)["bold"].iloc[0]))
        ),
    output:
        **made("adopt_fmriprep_anatomy"),
    log:
        layout.log("adopt_fmriprep_anatomy"),
    conda:
        ENVIRONMENT
    resources:
        **needs("adopt_fmriprep_anatomy", mem_mb=1500, runtime=20),
    params:
        raw=lambda wildcards: scans_of_anatomy(wildcards)["bold"].iloc[0],
        made=lambda wildcards: (
            []
            if job
            else content_of(files_of_anatomy(Path(), fmriprep, scans_of_anatomy(wildcards)["bold"].iloc[0]))
        ),
        asked=adoption,
        root=Path(fmriprep.derivatives),
        code=code_of("adopt_fmriprep_anatomy"),
    script:
        "../scripts/adopt_fmriprep_anatomy.py"


# What later rules read, by the names that every engine's file gives it.
anatomies = {name: getattr(rules.adopt_fmriprep_anatomy.output, name) for name in ANATOMY_PARTS}
preprocessed = rules.adopt_fmriprep_run.output
aligned = {
    "boldref": rules.adopt_fmriprep_run.output.boldref,
    "mask": rules.adopt_fmriprep_run.output.mask,
    "alignment": [],  # all in the template's space
    "t1w": rules.adopt_fmriprep_run.output.t1w,
}
template_images = [image] if (image := grid_image(Path(), study, every_scan["bold"])) else []
