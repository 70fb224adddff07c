# The checked study, its scans, and the names of their files. No science here.
import os
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.scheduling.milp import SchedulerSettings as MILPSchedulerSettings
from snakemake.settings.types import RerunTrigger
from snakemake_interface_scheduler_plugins.registry import SchedulerPluginRegistry

from reconfmri.acquisition import acquisition_of
from reconfmri.bids import (
    LABEL,
    list_files,
    paths_in,
    read_record,
    read_run_table,
    read_sidecar,
    verify_unchanged,
)
from reconfmri.books import outcomes_of_runs
from reconfmri.config import contrast_label, load_study
from reconfmri.contents import Contents, seal_of
from reconfmri.contracts import questions
from reconfmri.contracts.rules import RULES, producers, recordings
from reconfmri.decisions import TABLE as DECIDED_TABLE
from reconfmri.decisions import (
    check_decisions,
    keep_decisions,
    people_of,
    read_decisions,
    tables_of,
)
from reconfmri.derivatives import files_of_segmentation
from reconfmri.exclusions import UNIT
from reconfmri.fetching import refuse_unfetched
from reconfmri.fieldmaps import fieldmap_of
from reconfmri.layout import layout_of
from reconfmri.locks import BusyError, hold_as_worker
from reconfmri.machine import THREADS, close_to_the_world, keep_caches, settle
from reconfmri.needs import growing, read_needs
from reconfmri.parity import protocol_of
from reconfmri.provenance import code_of as code_on_disk
from reconfmri.provenance import export_package_source
from reconfmri.templates import harvard_oxford, nlin6_brain, target_brain
from reconfmri.trial.codes import as_seen, codes_file, is_coded
from reconfmri.trial.lock import stamp_of
from reconfmri.trial.ratings import check_decided

# Jobs run side by side: one thread each inside BLAS.
os.environ |= dict.fromkeys(THREADS, "1")
settle()
keep_caches(Path())
close_to_the_world(Path(".snakemake"))  # begun before this file was read

ENVIRONMENT = "../../envs/reconfmri.yaml"
DEFAULT_LIMIT = (100, 1)  # jobs, s: `--max-jobs-per-timespan` of Snakemake

if "conda" in map(str, workflow.deployment_settings.deployment_method):
    try:  # what pip installs of this package, named so in envs/reconfmri.yaml
        export_package_source()
    except FileNotFoundError as error:
        raise WorkflowError(str(error))

# What files hold decides what is made again, never their dates or where they lie. Every file from outside of
# the results is `ancient` and its sha256 a parameter of the rules that read it, as are code and libraries (the
# date of a script and the path of a dataset change with every copy). Results up to 5 MB are compared by their
# content; larger ones are `ancient` too and stand behind a JSON with their sha256.
planning = workflow.is_main_process
contents = Contents(Path(), planned=planning)


class ByContent(type(workflow)):
    """A workflow receives its settings only after its Snakefile was read: they are changed on the way in."""

    def execute(self, **given):
        """Run the jobs: under the study's locks, and without the scheduler that can hang when it is told to end."""
        if self.dryrun:
            return super().execute(**given)
        if isinstance(given["scheduler_settings"], MILPSchedulerSettings):
            given["scheduler_plugin"] = SchedulerPluginRegistry().get_plugin("greedy")
            given["scheduler_settings"] = given["greedy_scheduler_settings"]
        try:
            with hold_as_worker(Path(), people=people_asked_for()):
                seal.write(Path())
                contents.save()
                return super().execute(**given)
        except BusyError as error:
            raise WorkflowError(str(error))

    def _prepare_dag(self, *arguments, **given):
        """Hold a result for finished only where Snakemake saw its job end: else its record is of an earlier job.

        A job on a cluster outlives a killed main process. What it leaves would count as made from whatever the
        record of the job before says, or, without a record, never be made again.
        """
        super()._prepare_dag(*arguments, **given)
        kept = self.persistence
        mark, marked = kept.started, kept.incomplete

        def started(job, external_jobid=None):
            for file in job.output:
                kept.cleanup_metadata(file)
            mark(job, external_jobid)

        async def incomplete(job):
            unseen = [file for file in job.output if not kept.metadata(file) and await file.exists()]
            return list(dict.fromkeys([*await marked(job), *unseen]))

        kept.started, kept.incomplete = started, incomplete

    @property
    def execution_settings(self):
        return vars(self)["execution_settings"]

    @execution_settings.setter
    def execution_settings(self, given):
        # Snakemake's lock outlives a kill and does not see `reconfmri run`: the study's own stand in for it.
        vars(self)["execution_settings"] = given and replace(given, lock=False)

    @property
    def dag_settings(self):
        return vars(self)["dag_settings"]

    @dag_settings.setter
    def dag_settings(self, given):
        vars(self)["dag_settings"] = given and replace(
            given,
            rerun_triggers=frozenset(given.rerun_triggers) - {RerunTrigger.CODE, RerunTrigger.INPUT},
            max_checksum_file_size=max(given.max_checksum_file_size, 5_000_000),
            force_incomplete=True,  # after a kill the same command goes on
        )

    @property
    def scheduling_settings(self):
        return vars(self)["scheduling_settings"]

    @scheduling_settings.setter
    def scheduling_settings(self, given):
        # With a limit on jobs per time span, every wait for a free processor leaves a timer that wakes the scheduler
        # each second until the end (Snakemake 9). The default limit only protects a remote server from bursts, and
        # `--jobs` does so too; a limit that the user gives stays.
        limit = given and given.max_jobs_per_timespan
        if limit and (limit.max_jobs, limit.timespan) == DEFAULT_LIMIT:
            given = replace(given, max_jobs_per_timespan=None, max_jobs_per_second=None)
        vars(self)["scheduling_settings"] = given


if planning:
    workflow.__class__ = ByContent

try:
    study = as_seen(load_study("config/config.yaml"), Path())
    if study.open_days:
        raise ValueError(
            f"E-CONF-C09 config/config.yaml: the days of the visits {study.open_days} are open. "
            "Fix: list the visits in order of time, baseline first, and fill in `day`"
        )
    scans = read_run_table("config/runs.tsv")
    decided = read_decisions(Path())
    measured = read_needs(Path())
    seal = seal_of(Path(), study)
    if planning:
        record = read_record(Path())
        verify_unchanged(scans, Path(study.bids), record, digest=contents.of)
        check_decisions(Path(), study, scans, record)
        check_decided(Path())
        refuse_unfetched(Path(), study, digest=contents.of)
    else:
        seal.check(Path(), str(workflow.config_settings.overwrite_config.get("seal")))
except (ValueError, FileNotFoundError) as error:
    raise WorkflowError(
        f"{error}\nA study folder is made by `reconfmri init`, its run table by `reconfmri index`."
    )
if planning:
    # Jobs are told what they were planned with, on every executor, and refuse anything else.
    workflow.config_settings.config_args = [
        *(workflow.config_settings.config_args or []),
        f"seal={seal.name}",
    ]

layout = layout_of(Path(), study, scans)
bids_root = Path(study.bids)
people = people_of(bids_root, scans)  # whoever could have a score
scans = keep_decisions(scans, decided)
decided_tables = [ancient(str(path)) for path in tables_of(Path())]
# Without the reasons: what a person wrote there may tell the arm.
decided_units = [asdict(replace(row, stage="", reason="", decided_by="")) for row in decided]
if scans.empty:
    raise WorkflowError(f"E-CONF-D02 {DECIDED_TABLE}: takes every scan out, so nothing is left to analyse")
every_scan = scans

FILTERS = {
    "participant_id": "only_participants",
    "session_id": "only_sessions",
    "task": "only_tasks",
}
partial_by = [key for key in FILTERS.values() if key in config]


def people_asked_for():
    """The people whom a run is about, none where it is about all."""
    if "only_participants" not in config:
        return []
    return list(dict.fromkeys(scans["participant_id"]))


def asked_for(given, labels):
    """Which labels a value of `--config` names; Snakemake reads a lone `01` there as the number 1."""
    if isinstance(given, int):
        return labels.map(lambda label: label.isdecimal() and int(label) == given)
    return labels.isin(str(given).split(","))


for column, key in FILTERS.items():
    if key in partial_by:
        scans = scans[asked_for(config[key], scans[column].str.removeprefix("sub-"))]


wildcard_constraints:
    sub=LABEL.pattern,
    ses=LABEL.pattern,
    task=LABEL.pattern,
    run=LABEL.pattern,


ANATOMY_PARTS = ("t1w", "mask", "dseg", "to_t1w", "facts")
visits = {session.id: number for number, session in enumerate(study.sessions)}
by_visit = every_scan.sort_values("session_id", key=lambda ids: ids.map(visits), kind="stable")


def scans_of_anatomy(wildcards):
    """All scans of a person, by visit, or of one session where each has its own anatomy."""
    own = by_visit[by_visit["participant_id"] == f"sub-{wildcards.sub}"]
    return own[own["session_id"] == wildcards.ses] if layout.sessionwise else own


def t1w_images(wildcards):
    """The raw T1w images that an anatomy is made from, whichever scans are asked for."""
    own = scans_of_anatomy(wildcards)
    if study.preprocessing.anatomy == "baseline":
        own = own[:1]
    return list(dict.fromkeys(str(bids_root / image) for image in own["t1w"]))


def made(rule_name):
    """The files that a rule makes, by name; those with a caption stand in Snakemake's own report."""
    found = layout.outputs(rule_name)
    for name, file in RULES[rule_name].files.items():
        if file.caption:
            caption = f"../report/{file.caption}.rst"
            found[name] = report(found[name], caption=caption, category=file.category)
    return found


if scans.empty:
    raise WorkflowError(f"E-CONF-A04 nobody is left of {config}: who was asked for is out by {DECIDED_TABLE}")
row_of = {tuple(layout.wildcards(scan._asdict()).values()): scan for scan in scans.itertuples()}


def scan_of(wildcards):
    given = {"ses": "n/a", "run": "1", **dict(wildcards.items())}
    return row_of[tuple(given[key] for key in ("sub", "ses", "task", "run"))]


def needs(rule_name, *, mem_mb, runtime):
    """Memory, MB, and time, min, of a job: as `reconfmri resources` measured it, else as given; each retry asks more."""
    mem_mb, runtime = measured.get(rule_name, (mem_mb, runtime))
    return {"mem_mb": growing(mem_mb), "runtime": growing(runtime)}


def code_of(rule_name):
    """The hash of all that a rule runs; jobs were told by the seal that it is the one they were planned with."""
    return code_on_disk(rule_name, also=questions.modules_of(rule_name)) if planning else ""


def raw(column):
    """Input function: the raw files of a scan that the run table names in `column`, none for `n/a`."""

    def files(wildcards):
        found = [ancient(str(bids_root / path)) for path in paths_in(getattr(scan_of(wildcards), column))]
        return found if column == "physio" or not found else found[0]

    return files


def raw_content(*columns):
    """Parameter function: the sha256 of the raw files of a scan, by their columns in the run table."""
    return lambda wildcards: {
        column: " ".join(contents.of(bids_root / path) for path in paths)
        for column in columns
        if (paths := paths_in(getattr(scan_of(wildcards), column)))
    }


def content_of(files):
    """The sha256 of files from outside of the results, in their order."""
    return [contents.of(path) for path in files]


def recording_facts(wildcards):
    """What the sidecars of a scan's recordings say that scores depend on, in the order of the recordings."""
    facts = []
    for path in paths_in(scan_of(wildcards).physio):
        sidecar = metadata_of(path)
        columns = sidecar.get("Columns")
        keys = ["SamplingFrequency", "StartTime", "Columns", *(columns if isinstance(columns, list) else [])]
        facts.append({key: sidecar[key] for key in keys if isinstance(key, str) and key in sidecar})
    return facts


@cache
def raw_listing():
    """The files of the dataset that an index depends on."""
    return list_files(bids_root)


@cache
def metadata_of(path):
    """What the sidecars of a raw file say, inherited."""
    return read_sidecar(bids_root, path)


def sidecar_of(wildcards):
    """What the raw run's sidecars say of its acquisition; a change makes the run again."""
    return acquisition_of(metadata_of(scan_of(wildcards).bold))


def encoding_of(wildcards):
    """Along which axis the ghost of a run is looked for."""
    sidecar = metadata_of(scan_of(wildcards).bold)
    return {key: sidecar.get(key) for key in ("PhaseEncodingDirection", "PhaseEncodingAxis")}


def fieldmap_for(wildcards):
    """The complete field map that is meant for a run, None without one or when the study does without."""
    if study.preprocessing.distortion == "none":
        return None
    bold = scan_of(wildcards).bold
    found = fieldmap_of(
        bids_root,
        bold,
        metadata_of(bold),
        wanted=study.filters.fmap,
        readout_time=study.preprocessing.readout_time,
    )
    return found.under(bids_root) if found else None


def fieldmap_params(wildcards):
    """What is recorded of a field map: method, sidecars, and the sha256 of its images."""
    field = fieldmap_for(wildcards)
    return field.params | {"sha256": content_of(field.files.values())} if field else None


def read_by_fmriprep(person):
    """The raw files, from the dataset's root, that a job of fMRIPrep may read: all but events and physiology."""
    others = ("_events.tsv", "_events.json", "_physio.tsv.gz", "_physio.json", "participants.tsv")
    own = (path for path in raw_listing() if path.startswith(f"sub-{person}/") or "/" not in path)
    return [path for path in own if not path.endswith(others)]


def image_content(wildcards):
    """The container's image: its sha256, or its name in a registry."""
    return (contents.of(job.image) if Path(job.image).is_file() else job.image) if job else None


def adopted(files):
    """Files of fMRIPrep that exist, whatever their dates."""
    return [ancient(str(path)) for path in files]


def adoption(wildcards):
    """What is recorded of the outputs that are taken over."""
    return {
        "res": study.preprocessing.fmriprep.res,
        "container": bool(job),
        "acompcor": study.preprocessing.acompcor,
        "tcompcor": study.preprocessing.tcompcor,
    }


# Where people's own segmentations lie, if regions are of them.
segmented = study.preprocessing.fmriprep if study.rois.own else None


def segmentation_files(wildcards):
    """Input function: a scan's own segmentation and the table of its labels, where they exist."""
    if segmented is None or segmented.container:
        return []
    return adopted(files_of_segmentation(Path(), segmented, study.rois.segmentation, scan_of(wildcards).bold))


def segmentation_asked(wildcards):
    """What is recorded of the segmentation that regions are of; None where none is."""
    if segmented is None:
        return None
    found = content_of(segmentation_files(wildcards))
    return {"raw": scan_of(wildcards).bold, "res": segmented.res, "sha256": found}


@cache
def scans_of(rule_name, person=None):
    """The scans (of a person) that a rule has a job for."""
    mine = [RULES[rule_name].is_of(study, scan) for scan in scans.to_dict("records")]
    chosen = scans[mine]
    return chosen[chosen["participant_id"] == f"sub-{person}"] if person else chosen


def of_runs(pattern, rule_name="extract_region_signals", person=None):
    """One file per scan that a rule has a job for; by default every scan of the study's tasks."""
    return [
        pattern.format(**layout.wildcards(scan)) for scan in scans_of(rule_name, person).to_dict("records")
    ]


def recorded():
    """Kind of recording -> the pictures of it, one per scan that has one."""
    return {kind: of_runs(layout.path(name, "picture"), name) for kind, name in recordings(study).items()}


def places_of_recorded():
    """Kind of recording -> which scans, counted in the order of `of_runs`, have one."""
    every = list(scans_of("extract_region_signals").index)
    return {
        kind: [every.index(row) for row in scans_of(name).index] for kind, name in recordings(study).items()
    }


def of_people(pattern):
    """One file per person (and session, where the pattern names it) who has a scan in the tasks of the study."""
    return list(dict.fromkeys(of_runs(pattern)))


def whole_study(wildcards):
    """Parameter function of rules that every result of the study passes: never asked of some people or scans."""
    if partial_by:
        raise WorkflowError(
            f"E-CONF-A04 {', '.join(partial_by)}: a result of the group would be one of some people. Fix: ask "
            "for `all_participant`, or leave that out"
        )
    return True


def facts_of_runs():
    """What a page says of each scan, in the order of `of_runs`, as Snakemake can record it."""
    keys = [*UNIT, "tr", "n_volumes"]
    return scans.loc[scans["task"].isin(list(study.tasks)), keys].astype(str).to_dict("records")


def settings_of(section):
    """A section as Snakemake can record it: plain values, by name; None when the study does without it."""
    return section.model_dump(mode="json") if section else None


def participants_table():
    """participants.tsv, where the group model takes covariates from it."""
    wanted = study.group and study.group.participant_columns
    return ancient(str(bids_root / "participants.tsv")) if wanted else []


def allocation_table():
    """The arms. Only group rules may ask for them: nothing else reads that file, not even for its sha256."""
    return ancient(study.group.allocation) if study.group else []


def codes_table(wildcards=None):
    """Input function: which arm is A, while a study is blinded; for the rules that read the arms, and no others."""
    if not is_coded(study.group):
        return []
    codes = codes_file(study.group.allocation)
    if not codes.is_file():
        raise WorkflowError(
            f"E-CONF-F13 {codes}: the arms have no codes yet. Fix: draw them, `reconfmri blind`, or set "
            "`group.blinding: open`"
        )
    return ancient(str(codes))


def adverse_events_table():
    """phenotype/adverse_events.tsv, where there is one; compared by the arms only."""
    path = bids_root / "phenotype" / "adverse_events.tsv"
    return ancient(str(path)) if path.is_file() else []


def stamp_now():
    """What results are stamped with: how the study as written compares with its locks."""
    try:
        return stamp_of(Path(), load_study("config/config.yaml"))
    except ValueError as error:
        raise WorkflowError(str(error))


def conduct_now():
    """What the page says of the trial's conduct: a lock, an entry of the log or a change makes it anew."""
    stamp = stamp_now()
    changes = [*stamp.changes, *(stamp.registered.deviations if stamp.registered else ())]
    return [stamp.word, *(change.key for change in changes), *(entry.hash for entry in stamp.log)]


def group_content(wildcards):
    """The sha256 of what the group rules read from outside of the results; asked when one is planned."""
    read = (
        study.group and study.group.allocation,
        codes_table(),
        participants_table(),
        adverse_events_table(),
    )
    return content_of(path for path in read if path)


def run_measures():
    """Producer -> its table of measures of every scan."""
    return {
        name: of_runs(layout.path(rule_name, "measures"), rule_name)
        for name, rule_name in producers(study).items()
    }


def units_of_tables():
    """Producer -> the unit of each of its tables of measures, in the order of `of_runs`."""
    return {name: units_of(rule_name) for name, rule_name in producers(study).items()}


def units_of(rule_name):
    """The unit of each scan that a rule has a job for, in the order of `of_runs`."""
    return [
        [
            scan["participant_id"],
            scan["session_id"],
            scan["task"],
            layout.wildcards(scan)["run"] if layout.has_runs else "n/a",
        ]
        for scan in scans_of(rule_name).to_dict("records")
    ]


def phenotype_of(wildcards):
    """The table that a scale is scored from, which may hold several."""
    return bids_root / "phenotype" / f"{study.scales[wildcards.scale].table or wildcards.scale}.tsv"


def of_scales(output):
    """One file per clinical scale."""
    return [layout.path("score_scale", output, scale=name) for name in study.scales]


def measure_tables():
    """Every table of measures that participant-level rules make, one per scan and producer."""
    return [path for tables in run_measures().values() for path in tables] + of_scales("measures")


def exclusion_tables():
    """The exclusions beside every table of measures, of every person over sessions, and those of the maps."""
    last = [*producers(study).values(), "estimate_maps"]
    return [
        *of_people(layout.path("compare_sessions", "exclusions")),
        *(path for name in last for path in of_runs(layout.path(name, "exclusions"), name)),
        *of_scales("exclusions"),
    ]


def compared_maps(stat):
    """One statistic of every contrast that is compared in every voxel, of every run; contrast by contrast."""
    contrasts = study.group.voxels.contrasts if study.group and study.group.voxels else []
    pattern = layout.path("estimate_maps", "maps")
    patterns = [
        pattern.replace("{contrast}", contrast_label(name)).replace("{stat}", stat) for name in contrasts
    ]
    return [path for each in patterns for path in of_runs(each, "estimate_maps")]


def group_tables():
    """The tables of every group question that this study asks."""
    if not study.group:
        return []
    of_images = questions.files_of("compare_maps", layout.root) if RULES["compare_maps"].is_in(study) else {}
    return [*questions.every_file(layout.root).values(), *of_images.values()]


def voxel_images():
    """The images of the comparison of voxels."""
    return [path for path in layout.named(study, "compare_maps") if path.endswith(".nii.gz")]


def map_files():
    """The maps that the study file asks for, of every run."""
    patterns = layout.maps(study.first_level.maps) if study.first_level else []
    return [path for pattern in patterns for path in of_runs(pattern, "estimate_maps")]
