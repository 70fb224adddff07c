"""Contents decide what is made again: an input reruns exactly its dependents, equal content nothing.

The study is planned and touched, so that Snakemake holds a record of every job; nothing is computed.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from planned_study import ROOT, plan_study, snakemake

from reconfmri import bids
from reconfmri.contents import LEDGER, SEAL, Seal
from reconfmri.locks import hold, hold_log

FUNNEL = {"stack_measures", "stack_exclusions", "describe_participants"}
GROUP = {
    "fit_frequentist_models",
    "fit_bayesian_models",
    "test_by_randomisation",
    "examine_missing_visits",
    "collect_estimates",
    "build_report",
}
AFTER_RUN = FUNNEL | GROUP
VOXELS = {"compare_maps"}  # reads maps and arms, no table of measures
EVENTS = "onset\tduration\ttrial_type\n{onset}\t5\tx\n"
RECORDING = {"SamplingFrequency": 100, "StartTime": 0, "Columns": ["skin_conductance"]}
ARMS = "participant_id\tarm\nsub-001\tketamine\nsub-002\tmidazolam\nsub-003\tketamine\n"


def func(person: int, session: int, rest: str) -> str:
    return f"sub-{person:03d}/ses-{session}/func/sub-{person:03d}_ses-{session}_task-memory_run-1_{rest}"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def index_again(study: Path) -> None:
    """What `reconfmri index` writes of changed files; the images of this study cannot be indexed."""
    table = bids.read_run_table(study / "config/runs.tsv")
    for name in bids.FILE_COLUMNS:
        table[f"{name}_sha256"] = [bids.sha256(study / "bids" / path) for path in table[name]]
    bids.write_run_table(study / "config/runs.tsv", table)


def planned(study: Path, *arguments: str, **environment: str) -> dict[str, set[str]]:
    """Rule -> wildcards of its jobs that a dry run would do."""
    text = snakemake(study, "--dry-run", *arguments, environment=environment).stdout
    jobs: dict[str, set[str]] = {}
    for rule, rest in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", text, re.MULTILINE):
        found = re.search(r"wildcards: (.*)", rest)
        if rule not in ("all", "all_participant"):  # they only collect
            jobs.setdefault(rule, set()).add(found[1] if found else "")
    return jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three people, two sessions, a field map, phenotype tables and sidecars, all results touched."""
    study = plan_study(tmp_path_factory.mktemp("fresh") / "study", participants=3, sessions=2)
    root = study / "bids"
    write(study / "allocation.tsv", ARMS)
    write(root / "participants.tsv", "participant_id\tage\nsub-001\t30\nsub-002\t31\nsub-003\t32\n")
    for scale in ("pcl5", "caps5"):
        rows = "".join(f"sub-{p:03d}\t{s}\t20\n" for p in (1, 2, 3) for s in (1, 2))
        write(root / f"phenotype/{scale}.tsv", "participant_id\tsession_id\ttotal\n" + rows)
    sidecar = {"RepetitionTime": 2.0, "PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.03}
    write(root / "task-memory_bold.json", json.dumps(sidecar))
    for person in (1, 2, 3):
        for session in (1, 2):
            write(root / func(person, session, "events.tsv"), EVENTS.format(onset=person))
            write(root / func(person, session, "physio.json"), json.dumps(RECORDING))
    place = root / "sub-002/ses-2/fmap/sub-002_ses-2_"
    meant = {"EchoTime1": 0.00492, "EchoTime2": 0.00738, "IntendedFor": func(2, 2, "bold.nii.gz")[8:]}
    write(Path(f"{place}phasediff.json"), json.dumps(meant))
    for suffix in ("phasediff", "magnitude1"):
        Path(f"{place}{suffix}.nii.gz").write_bytes(gzip.compress(b"x"))
    index_again(study)
    text = snakemake(study, "--dry-run", "all", "all_participant").stdout
    for line in re.findall(r"^    output: (.*)$", text, re.MULTILINE):
        for name in line.split(", "):
            (study / name).parent.mkdir(parents=True, exist_ok=True)
            (study / name).write_text(name, encoding="utf-8")
    snakemake(study, "--touch", "--forceall", "--cores", "1", "all", "all_participant")
    return study


@pytest.fixture
def study(finished, tmp_path):
    """A copy with new dates everywhere, in no order that results and inputs were made in."""
    shutil.copytree(finished, tmp_path / "study", symlinks=True)
    for number, path in enumerate(sorted((tmp_path / "study").rglob("*"), reverse=True)):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path, (1.7e9 + number, 1.7e9 + number))
    return tmp_path / "study"


def test_equal_content_reruns_nothing_wherever_dataset_and_code_lie(study, tmp_path):
    shutil.move(study / "bids", tmp_path / "elsewhere")
    config = study / "config/config.yaml"
    text = config.read_text().replace("\nbids:", "\n# bids:")
    config.write_text(f"bids: {tmp_path / 'elsewhere'}\n" + text)
    clone = tmp_path / "clone"
    for part in ("src", "workflow"):
        shutil.copytree(ROOT / part, clone / part, copy_function=shutil.copy)
    shutil.copy(ROOT / "Snakefile", clone)
    code = {"PYTHONPATH": str(clone / "src")}
    assert planned(study, "--snakefile", str(clone / "Snakefile"), "all", "all_participant", **code) == {}


def test_every_kind_of_input_reruns_its_dependents_and_nothing_else(study):
    root = study / "bids"
    write(root / func(1, 1, "events.tsv"), EVENTS.format(onset=9))
    write(root / func(1, 2, "physio.json"), json.dumps(RECORDING | {"StartTime": -1}))
    (root / func(3, 1, "physio.tsv.gz")).write_bytes(gzip.compress(b"1\n"))
    write(root / func(2, 1, "bold.json"), json.dumps({"SliceTiming": [0, 1]}))
    (root / "sub-002/ses-2/fmap/sub-002_ses-2_phasediff.nii.gz").write_bytes(gzip.compress(b"y"))
    pcl5 = root / "phenotype/pcl5.tsv"
    before = pcl5.stat()
    write(pcl5, pcl5.read_text().replace("20", "21"))
    os.utime(pcl5, ns=(before.st_atime_ns, before.st_mtime_ns))
    index_again(study)
    jobs = planned(study, "all", "all_participant")
    runs = {f"{p}{s}": f"sub={p:03d}, ses={s}, task=memory, run=1" for p in (1, 2, 3) for s in (1, 2)}
    made_again = {runs["21"], runs["22"]}
    assert jobs["align_run"] == jobs["resample_run"] == jobs["extract_region_signals"] == made_again
    assert (
        jobs["fit_first_level"]
        == jobs["estimate_connectivity"]
        == made_again
        | {
            runs["11"],
            *(of_person(jobs, "001", runs) | of_person(jobs, "002", runs)),
        }
    )
    assert jobs["assess_quality"] == made_again | {runs["11"]}
    assert jobs["score_skin_conductance"] == {runs["11"], runs["12"], runs["31"]}
    assert jobs["score_scale"] == {"scale=pcl5"}
    assert not {"prepare_anatomy", "carry_atlas"} & set(jobs)
    assert set(jobs) >= AFTER_RUN


def of_person(jobs: dict[str, set[str]], person: str, runs: dict[str, str]) -> set[str]:
    """All runs of a person whose sessions are compared anew: what rests on the comparison follows."""
    compared = f"sub={person}" in jobs.get("compare_sessions", set())
    return {run for run in runs.values() if compared and run.startswith(f"sub={person}")}


def test_a_new_t1w_makes_its_person_again_and_nobody_else(study):
    (study / "bids/sub-003/ses-1/anat/sub-003_ses-1_T1w.nii.gz").write_bytes(b"another")
    index_again(study)
    jobs = planned(study, "all", "all_participant")
    assert jobs["prepare_anatomy"] == {"sub=003"}
    assert jobs["align_run"] == jobs["fit_first_level"]
    assert {run[:7] for run in jobs["align_run"]} == {"sub=003"}
    assert not {"score_scale", "score_skin_conductance", "carry_atlas"} & set(jobs)


def test_a_late_participant_is_made_alone_and_the_group_anew(study):
    """Scanned after the group stage has run: nothing that is finished is computed again."""
    root, table = study / "bids", bids.read_run_table(study / "config/runs.tsv")
    late = table[table["participant_id"] == "sub-003"].astype(str)
    late = late.apply(lambda column: column.str.replace("sub-003", "sub-004"))
    shutil.copytree(root / "sub-003", root / "sub-004")
    for path in sorted((root / "sub-004").rglob("sub-003*")):
        path.rename(path.with_name(path.name.replace("sub-003", "sub-004")))
    late = late.astype(table.dtypes.to_dict())
    bids.write_run_table(study / "config/runs.tsv", pd.concat([table, late], ignore_index=True))
    jobs = planned(study, "all", "all_participant")
    of_people = {rule: made for rule, made in jobs.items() if any("sub=" in job for job in made)}
    assert {job[:7] for made in of_people.values() for job in made} == {"sub=004"}
    assert of_people.keys() >= {"prepare_anatomy", "align_run", "fit_first_level", "score_skin_conductance"}
    assert jobs.keys() - of_people.keys() == AFTER_RUN | VOXELS | {"audit_sessions", "score_scale"}


def test_arms_that_were_swapped_under_the_old_date_make_the_group_again(study):
    arms = study / "allocation.tsv"
    before = arms.stat()
    swapped = ARMS.replace("ketamine", "x").replace("midazolam", "ketamine").replace("x", "midazolam")
    write(arms, swapped)
    os.utime(arms, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert set(planned(study, "all", "all_participant")) == GROUP | VOXELS


def test_a_row_decided_by_hand_counts_at_once(study):
    table = study / "config/exclusions.tsv"
    row = "sub-003\tn/a\tn/a\tn/a\tn/a\tgroup\tE-X\tunblinded: ketamine\tJane Doe\n"
    table.write_text(table.read_text() + row)
    jobs = planned(study, "all", "all_participant")
    assert set(jobs) == AFTER_RUN | VOXELS | {"audit_sessions", "score_scale"}
    text = snakemake(study, "--dry-run", "results/measures.tsv").stdout
    assert "unblinded" not in text, "what a person wrote is no parameter of a participant-level rule"
    assert "sub-003/" not in text


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("sub-03\tn/a\tn/a\tn/a\tn/a\tgroup\tE-X\tno\tJane\n", "participant_id 'sub-03'"),
        ("sub-003\t1\tmemory\t1\tamigdala\tgroup\tE-X\tno\tJane\n", "region 'amigdala'"),
    ],
)
def test_a_row_decided_by_hand_that_names_nothing_stops(study, row, told):
    table = study / "config/exclusions.tsv"
    table.write_text(table.read_text() + row)
    done = snakemake(study, "--dry-run", check=False)
    assert done.returncode
    assert told in done.stdout + done.stderr


def test_a_file_that_changed_after_the_index_stops_until_it_is_indexed(study):
    write(study / "bids" / func(1, 1, "events.tsv"), EVENTS.format(onset=7))
    done = snakemake(study, "--dry-run", check=False)
    assert done.returncode
    assert "E-BIDS-A13" in done.stdout + done.stderr


def test_a_result_of_some_people_is_refused(study):
    done = snakemake(study, "--dry-run", "all", "--config", "only_participants=001,", check=False)
    assert done.returncode
    assert "E-CONF-A04" in done.stdout + done.stderr
    assert planned(study, "all_participant", "--config", "only_participants=001,").keys() <= {
        "describe_participants"
    }


def job(study: Path, seal: str) -> str:
    """What a job says that is started as Snakemake starts it, for a run with that seal."""
    options = ["--mode", "subprocess", "--cores", "1", "--force", "--nolock", "--config", f"seal={seal}"]
    done = snakemake(study, "results/scales/pcl5_measures.tsv", *options, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def test_a_job_refuses_another_study_or_file_than_it_was_planned_with(study):
    """The study file, and a table, edited while jobs wait on a cluster."""
    snakemake(study, "results/scales/pcl5_measures.tsv", "--touch", "--forceall", "--cores", "1")
    seal = Seal(**json.loads((study / SEAL).read_text())).name
    assert job(study, seal) == ""
    config = study / "config/config.yaml"
    before = config.read_text()
    config.write_text(before.replace("high_pass: 0.008", "high_pass: 0.01"))
    assert "E-CONF-D01 config/config.yaml: changed" in job(study, seal)
    config.write_text(before)
    assert job(study, seal) == ""
    pcl5 = study / "bids/phenotype/pcl5.tsv"
    pcl5.write_text(pcl5.read_text().replace("20", "19"))
    assert "changed after this run was planned" in job(study, seal)


def test_plain_snakemake_is_refused_beside_a_live_run_and_touches_nothing(study):
    target = ["results/scales/pcl5_measures.tsv", "--cores", "1"]
    (study / SEAL).write_text("of the run that is alive")
    before = (study / LEDGER).read_bytes()
    with hold(study, shared=["study"], alone=["sub-001"]):
        refused = snakemake(study, *target, check=False)
    assert refused.returncode
    assert "works on study of this study. Fix: wait for it" in refused.stdout + refused.stderr
    assert (study / SEAL).read_text() == "of the run that is alive"
    assert (study / LEDGER).read_bytes() == before


def test_what_a_cluster_job_leaves_that_outlived_its_main_process_is_made_again(study):
    """Its files lie there whole, without a record: that of an earlier job must not stand for them."""
    target = ["results/scales/pcl5_measures.tsv", "--cores", "1"]
    place, log = study / target[0], study / "logs/score_scale/pcl5.log"
    record = study / ".snakemake/metadata" / base64.urlsafe_b64encode(target[0].encode()).decode()
    assert record.is_file()
    place.unlink()
    command = [sys.executable, "-m", "snakemake", "--directory", str(study), *target]
    run = [*command, "--snakefile", str(ROOT / "Snakefile")]
    with hold_log(log), subprocess.Popen(run, start_new_session=True, stderr=subprocess.DEVNULL) as begun:
        end = time.monotonic() + 120  # the job waits for its log
        while record.exists() and begun.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(begun.pid, signal.SIGKILL)
    assert not record.exists(), "from its beginning on nothing is known of the job"
    shutil.rmtree(study / ".snakemake/incomplete")  # as the job does at its end
    left = study / ".snakemake/locks/0.output.lock"
    left.parent.mkdir(exist_ok=True)
    left.write_text("results/scales/pcl5_measures.tsv\n")  # of Snakemake's own, which would want --unlock
    place.write_text("of a job that nobody saw end")
    place.with_name("pcl5_exclusions.tsv").write_text("too")
    snakemake(study, *target)
    assert place.read_text().startswith("participant_id\t")
    assert record.is_file()


def records(study: Path) -> list[str]:
    """What Snakemake keeps of every result."""
    return [path.read_text() for path in (study / ".snakemake/metadata").rglob("*") if path.is_file()]


def test_no_participant_level_record_knows_the_allocation(study):
    digest = bids.sha256(study / "allocation.tsv")
    rules = {json.loads(text)["rule"] for text in records(study) if digest in text}
    assert rules == GROUP - {"collect_estimates"} | VOXELS
    assert digest not in (study / SEAL).read_text()


def test_the_atlas_is_recorded_by_its_content(study):
    from reconfmri.templates import harvard_oxford

    atlas = [text for text in records(study) if json.loads(text)["rule"] == "carry_atlas"]
    assert atlas
    assert all(bids.sha256(harvard_oxford()[0]) in text for text in atlas)
