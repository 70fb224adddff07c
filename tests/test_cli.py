"""The command line: what it writes, says and returns; locks, status and the BIDS-App over a tiny workflow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import reconfmri
from reconfmri.checks import check_study
from reconfmri.cli import bids_app, build_parser, dashed, main, status
from reconfmri.cli.draft import conditions_of
from reconfmri.cli.profiles import options_of
from reconfmri.config import Task, bare, load_study
from reconfmri.contracts.files import Layout
from reconfmri.contracts.rules import RULES
from reconfmri.exclusions import Exclusion, write_exclusions
from reconfmri.locks import BusyError, hold

sys.path.insert(0, str(Path(__file__).parent / "faults"))
from make_bids import PEOPLE, edit, make_bids, write

# A workflow with the names of the real one, that takes no time and can be told to fail.
TINY = """
from pathlib import Path
from reconfmri.bids import read_run_table
from reconfmri.config import load_study
scans = read_run_table("config/runs.tsv")
people = scans["participant_id"].str.removeprefix("sub-")
if "only_participants" in config:
    scans = scans[people.isin(str(config["only_participants"]).split(","))]
stems = [f"{s.participant_id}_ses-{s.session_id}_task-{s.task}_run-{s.run}" for s in scans.itertuples()]
folders = ["results/derivatives/" + "/".join(stem.split("_")[:2]) for stem in stems]
made = [f"{folder}/func/{stem}_desc-quality_measures.tsv" for folder, stem in zip(folders, stems)]
rule all_participant:
    input: made, [] if "only_participants" in config else "results/exclusions.tsv"
rule all:
    input: made, "results/measures.tsv", "results/exclusions.tsv"
rule stack_exclusions:
    input: made
    output: "results/exclusions.tsv"
    shell: "touch {output}"
rule stack:
    input: made
    output: "results/measures.tsv"
    shell: "touch {output}"
rule shared:
    output:
        "results/derivatives/dataset_description.json",
        "results/derivatives/atlas/space-MNI152NLin2009cAsym_regions.nii.gz",
        "results/scales/pcl5_measures.tsv",
    shell: "touch {output}"
rule assess_quality:
    output: "results/derivatives/sub-{sub}/ses-{ses}/func/{stem}_desc-quality_measures.tsv"
    log: "logs/assess_quality/sub-{sub}_ses-{ses}_{stem}.log"
    shell: "test ! -e fail-{wildcards.sub} && touch {output}"
"""


@pytest.fixture
def workflow(tmp_path, monkeypatch):
    """The tiny workflow in place of the packaged one."""
    folder = tmp_path / "workflow"
    write(folder / "Snakefile", TINY)
    monkeypatch.setattr(bids_app, "workflow_folder", lambda: folder)
    return folder


@pytest.fixture
def study(tmp_path):
    folder = make_bids(tmp_path)
    assert main(["index", "--study", str(folder)]) == 0
    return folder


def reconfmri_in_a_process(*arguments, **environment):
    command = [
        sys.executable,
        "-c",
        "import sys; from reconfmri.cli import main; sys.exit(main())",
        *map(str, arguments),
    ]
    given = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, check=False, env=given)


def app(tmp_path, *more):
    return main(
        [
            "run",
            str(tmp_path / "bids"),
            str(tmp_path / "study"),
            *more,
            "--skip-bids-validation",
            "--n-cpus",
            "2",
        ]
    )


# start-up, terminals, locales


def test_version_is_told_at_once(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"reconfmri {reconfmri.__version__}\n"


def test_start_up_imports_nothing_heavy():
    code = (
        "import sys; from reconfmri.cli import build_parser; build_parser(); print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_no_colours_without_a_terminal_and_letters_beyond_ascii_under_c(tmp_path):
    folder = make_bids(tmp_path / "tést ü", ["row without folder"])
    done = reconfmri_in_a_process("index", "--study", folder, LC_ALL="C", FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert "tést ü" in done.stdout.decode()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o640), (0o002, 0o660), (0o077, 0o600)])
def test_what_is_written_is_closed_to_the_world_and_as_open_to_the_group_as_the_lab_has_it(
    umask, mode, tmp_path
):
    folder = make_bids(tmp_path)
    code = f"import os, sys; os.umask({umask}); from reconfmri.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "index", "--study", str(folder)], check=False)
    assert done.returncode == 0
    for name in ("runs.tsv", "exclusions.tsv", "index.json"):
        assert (folder / "config" / name).stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("command", ["index", "check", "status"])
def test_a_folder_that_is_no_study_is_told_so(command, tmp_path, capsys):
    assert main([command, "--study", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "reconfmri init" in told.out + told.err
    assert not list(tmp_path.iterdir())


# init


def with_arms(root):
    table = root / "participants.tsv"
    lines = table.read_text().splitlines()
    arms = ["group", *(["midazolam", "ketamine"] * 3)]
    table.write_text("".join(f"{line}\t{arm}\n" for line, arm in zip(lines, arms, strict=True)))
    write(root / "participants.json", json.dumps({"age": {}, "group": {"Levels": {"ketamine": "drug"}}}))


def test_init_drafts_a_study_that_passes_its_own_check(tmp_path, capsys):
    make_bids(tmp_path)
    with_arms(tmp_path / "bids")
    new = tmp_path / "new"
    assert main(["init", str(new), "--bids", str(tmp_path / "bids"), "--move-arms"]) == 0
    assert "moved the column 'group' out of" in capsys.readouterr().out
    study = load_study(new / "config/config.yaml")
    assert study.bids == "../bids"
    assert [session.id for session in study.sessions] == ["1", "2", "3"]
    assert study.tasks["memory"].conditions == {"trauma": "trauma", "relax": "relax"}
    assert study.tasks["memory"].events == "each"
    assert (study.group.arms.active, study.group.arms.control) == ("ketamine", "midazolam")
    assert main(["index", "--study", str(new)]) == 0
    assert [problem.code for problem in check_study(new)] == ["W-CONF-C11"], "the marks of the draft"


def test_init_names_no_condition_like_a_column_or_an_event_of_another():
    kinds = ["constant", "csf", "run", "stim", "stim/1", "stim first", "a", "b", "ab", "1", "Stim"]
    conditions = conditions_of(kinds)
    assert conditions["constant"] == "c_constant"
    assert conditions["stim/1"] == "c_stim_1"
    assert Task(conditions=conditions)
    assert len(set(map(bare, conditions.values()))) == len(kinds)


def test_init_moves_the_arms_out_of_the_dataset_when_asked(tmp_path):
    make_bids(tmp_path)
    with_arms(tmp_path / "bids")
    assert main(["init", str(tmp_path / "new"), "--bids", str(tmp_path / "bids"), "--move-arms"]) == 0
    everything = "".join(
        p.read_text() for p in (tmp_path / "bids").rglob("*") if p.suffix in (".tsv", ".json")
    )
    assert "ketamine" not in everything
    assert "group" not in json.loads((tmp_path / "bids/participants.json").read_text())
    assert (tmp_path / "bids/participants.tsv").read_text().startswith("participant_id\tage\nsub-01\t30\n")
    rows = (tmp_path / "new/allocation.tsv").read_text().splitlines()
    assert rows[:3] == ["participant_id\tarm\tstratum", "sub-01\tmidazolam\tn/a", "sub-02\tketamine\tn/a"]


def test_arms_stay_in_a_dataset_that_cannot_be_written_and_that_is_said(tmp_path, monkeypatch, capsys):
    make_bids(tmp_path)
    with_arms(tmp_path / "bids")
    before = {path: path.read_bytes() for path in (tmp_path / "bids").rglob("*") if path.is_file()}
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    assert main(["init", str(tmp_path / "new"), "--bids", str(tmp_path / "bids"), "--move-arms"]) == 1
    assert "cannot be written. Fix: make it writable" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "bids").rglob("*") if path.is_file()} == before


def test_init_never_writes_over_a_study(tmp_path, capsys):
    folder = make_bids(tmp_path)
    before = (folder / "config/config.yaml").read_bytes()
    assert main(["init", str(folder), "--bids", str(tmp_path / "bids")]) == 1
    assert "nothing was overwritten" in capsys.readouterr().err
    assert (folder / "config/config.yaml").read_bytes() == before


def test_init_keeps_an_allocation_that_is_there(tmp_path):
    folder = make_bids(tmp_path)
    (folder / "config/config.yaml").unlink()
    before = (folder / "allocation.tsv").read_text()
    assert main(["init", str(folder), "--bids", str(tmp_path / "bids")]) == 0
    assert (folder / "allocation.tsv").read_text() == before
    assert load_study(folder / "config/config.yaml").group.arms.control == "midazolam"


def test_an_arm_column_in_the_dataset_is_a_remark_of_check(study, tmp_path, capsys):
    with_arms(tmp_path / "bids")
    main(["index", "--study", str(study)])
    capsys.readouterr()
    assert main(["check", "--study", str(study)]) == 0
    told = capsys.readouterr().out
    assert "W-BIDS-F12 participants.tsv: the column 'group'" in told
    assert "sub-01" not in told


# run


def test_run_makes_the_study_folder_and_leaves_the_dataset_alone(tmp_path, workflow, capsys, monkeypatch):
    make_bids(tmp_path)
    with_arms(tmp_path / "bids")
    before = {p: p.read_bytes() for p in (tmp_path / "bids").rglob("*") if p.is_file()}
    out = tmp_path / "ne w ü $x"
    monkeypatch.setenv("HOME", "/proc/nowhere")  # which root cannot make either
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    more = ["--n_cpus", "2", "-w", str(tmp_path / "work"), "--mem", "4G", "--skip_bids_validation"]
    assert main(["run", str(tmp_path / "bids"), str(out), "group", *more]) == 1
    assert "the participant level is not done: " in capsys.readouterr().err
    assert not (out / "results").exists(), "no preprocessing that nobody asked for"
    everybody = ["--participant_label", *PEOPLE]
    assert main(["run", str(tmp_path / "bids"), str(out), "participant", "-v", *everybody, *more]) == 0
    assert not list((out / "results").glob("*.tsv"))
    assert main(["run", str(tmp_path / "bids"), str(out), "group", *more]) == 0
    assert (out / "results/measures.tsv").is_file()
    assert (out / "allocation.tsv").is_file()
    assert (tmp_path / "work/.reconfmri/cache").is_dir()
    assert (out / "workflow/profiles/slurm/config.yaml").is_file(), "where --workflow-profile looks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert {p: p.read_bytes() for p in (tmp_path / "bids").rglob("*") if p.is_file()} == before


def test_run_of_some_people_makes_theirs_only_whatever_their_labels_look_like(tmp_path, workflow):
    folder = make_bids(tmp_path, ["labels like numbers"])
    assert main(["index", "--study", str(folder)]) == 0
    assert app(tmp_path, "participant", "--participant-label", "001") == 0
    made = {p.name for p in (folder / "results/derivatives").iterdir()}
    assert made == {"atlas", "dataset_description.json", "sub-001"}


def test_the_options_of_other_bids_apps_mean_the_same_here():
    parse = build_parser().parse_args
    base = ["run", "bids", "out", "participant"]
    ours = parse(
        dashed([*base, "--participant-label", "01", "02", "--n-cpus", "3", "--skip-bids-validation"])
    )
    theirs = parse(
        dashed([*base, "--participant_label", "01", "02", "--n_cpus", "3", "--skip_bids_validation"])
    )
    assert ours == theirs
    given = {"--mem": "16000", "--mem_mb": "16000", "--mem-mb": "16g", "--mem_gb": "16", "--mem-gb": "16.0"}
    for name, amount in given.items():
        assert parse(dashed([*base, name, amount])).mem == 16000
    assert parse(dashed([*base, "--nthreads", "3", "-vv"])).verbose == 2
    for wrong in (["--mem", "much"], ["--mem=0"], ["--n-cpus", "0"], ["--n-cpus", "all"]):
        with pytest.raises(SystemExit):
            parse([*base, *wrong])


def test_labels_are_taken_with_commas_and_prefixes_too():
    scans = pd.DataFrame(
        {"participant_id": ["sub-01", "sub-02"], "session_id": ["1", "1"], "task": ["m", "m"]}
    )
    options = build_parser().parse_args(["run", "b", "o", "participant", "--participant-label", "sub-01,02"])
    assert bids_app.chosen(scans, options) == {"participant_id": ["01", "02"]}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete_commands_options_and_files(shell, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", shell])
    assert end.value.code == 0
    script = capsys.readouterr().out
    assert "participant-label" in script
    assert "status" in script


def test_the_completion_of_bash_knows_our_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    ask = 'COMP_WORDS=(reconfmri st); COMP_CWORD=1; _shtab_reconfmri; echo "${COMPREPLY[@]}"'
    script = capsys.readouterr().out + ask
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["status"], done.stderr


def test_out_may_lie_in_the_derivatives_of_the_dataset(tmp_path, workflow):
    """As BIDS has it; an index there finds nothing of ours."""
    make_bids(tmp_path)
    out = tmp_path / "bids/derivatives/reconfmri"
    command = ["run", str(tmp_path / "bids"), str(out), "participant", "--skip-bids-validation"]
    assert main(command) == 0
    assert main(command) == 0
    assert len((out / "config/runs.tsv").read_text().splitlines()) == 19


def test_a_dry_run_makes_nothing(tmp_path, study, workflow):
    assert app(tmp_path, "participant", "--dry-run") == 0
    assert not (study / "results").exists()


@pytest.mark.parametrize(
    "more", [["--participant-label", "99"], ["--session-label", "9"], ["--task-id", "rest"]]
)
def test_an_unknown_label_names_the_known_ones(tmp_path, study, workflow, more, capsys):
    assert app(tmp_path, "participant", *more) == 1
    assert "is not in config/runs.tsv, which has [" in capsys.readouterr().err


def test_another_dataset_for_the_same_study_is_refused(tmp_path, study, workflow, capsys):
    make_bids(tmp_path / "other")
    assert main(["run", str(tmp_path / "other/bids"), str(study), "participant"]) == 1
    assert "E-CONF-C07" in capsys.readouterr().err


def test_a_changed_dataset_stops_the_run(tmp_path, study, workflow, capsys):
    edit(tmp_path / "bids/participants.tsv", "sub-01\t30", "sub-01\t31")
    assert app(tmp_path, "participant") == 1
    assert "E-BIDS-A13" in capsys.readouterr().out
    assert not (study / "results").exists()


def test_one_failing_person_spares_the_others(tmp_path, study, workflow):
    (study / "fail-03").touch()
    assert app(tmp_path, "participant") == 1
    made = list((study / "results").rglob("*_measures.tsv"))
    assert len(made) == 15
    (study / "fail-03").unlink()
    assert app(tmp_path, "participant") == 0, "the next run goes on from there"


def test_a_second_run_on_the_same_work_is_told_who_is_there_and_a_killed_one_leaves_no_lock(
    tmp_path, study, workflow, capfd
):
    code = (
        "import sys, time; from pathlib import Path; from reconfmri.locks import hold\n"
        "with hold(Path(sys.argv[1]), shared=['study'], alone=['sub-01']): time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(study)]) as first:
        held = study / ".reconfmri/locks/sub-01"
        wait_for(lambda: held.is_file() and held.read_text())
        assert app(tmp_path, "participant", "--participant-label", "01") == 3
        assert re.search(r"run \d+ on host \S+, alive since .* works on sub-01", capfd.readouterr().err)
        assert app(tmp_path, "group") == 3
        first.kill()
    assert not (study / "results").exists()
    with hold(study, shared=["study"], alone=["sub-01"]):
        pass


def test_an_index_waits_for_the_end_of_a_run(study, capsys):
    with hold(study, shared=[], alone=["study"]):
        assert main(["index", "--study", str(study)]) == 3
    assert "works on study" in capsys.readouterr().err


CODE = "__use_yte__: true\n__definitions__:\n  - import pathlib; pathlib.Path('ran').touch()\n"


@pytest.mark.parametrize("way", ["workflow profile", "variable", "option"])
def test_no_profile_runs_code(tmp_path, study, workflow, monkeypatch, way, capfd):
    """A study folder from elsewhere may hold `profiles/default`, which Snakemake reads unasked."""
    place = tmp_path / "profiles/default/config.yaml"
    write(place, CODE + "keep-going: true\n")
    monkeypatch.chdir(tmp_path)
    if way == "variable":
        monkeypatch.setenv("SNAKEMAKE_PROFILE", str(place.parent))
    given = ["--profile", str(place.parent)] if way == "option" else []
    assert app(tmp_path, "participant", "-n", *given) == (0 if way == "workflow profile" else 1)
    assert ("holds code" in capfd.readouterr().err) is (way != "workflow profile")
    assert not (tmp_path / "ran").exists()


def test_a_profile_says_where_jobs_run_and_never_what_they_compute(tmp_path, study):
    given, content = options_of("slurm", study)
    assert content["executor"] == "slurm"
    assert Path(given[-1]).name == "slurm"
    write(study / "workflow/profiles/slurm/config.yaml", "executor: slurm\njobs: 7\n")
    assert options_of("slurm", study)[1]["jobs"] == 7, "the study's own, edited, comes first"
    for text in (
        "configfile: other.yaml\n",
        "rerun_triggers: mtime\n",
        "a: !!python/name:os.system\n",
        "- a\n",
    ):
        write(tmp_path / "odd.yaml", text)
        with pytest.raises(ValueError, match=r"E-CONF-D05 .*odd\.yaml"):
            options_of(str(tmp_path / "odd.yaml"), study)
    with pytest.raises(ValueError, match="no such profile"):
        options_of("slrum", study)


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_lock_is_free_again_after_its_block(tmp_path):
    with hold(tmp_path, shared=["study"], alone=["sub-01"]):
        with (
            pytest.raises(BusyError, match="works on sub-01"),
            hold(tmp_path, shared=["study"], alone=["sub-01"]),
        ):
            pass
        with hold(tmp_path, shared=["study"], alone=["sub-02"]):
            pass
    with hold(tmp_path, shared=[], alone=["study", "sub-01"]):
        pass


def test_make_looks_for_certificates_where_a_proxy_has_left_its_own():
    """uv's own store and pip's hold no certificate of a proxy that signs TLS anew; the system's does."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    done = subprocess.run(
        ["make", "--no-print-directory", "--silent", "-f", "-", "shown"],
        input="include Makefile\nshown:\n\t@echo $$UV_SYSTEM_CERTS; echo $$PIP_CERT\n",
        cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    uv, pip = done.stdout.splitlines()
    assert uv == "true"
    assert Path(pip).is_file()


# status


def stage_of(study, person, name):
    scan = {
        "participant_id": person,
        "session_id": "1",
        "task": "memory",
        "run": "1",
        "bold": "b",
        "events": "e",
        "physio": "n/a",
    }
    settings = load_study(study / "config/config.yaml")
    stages = status.stages_of(settings, Layout(has_sessions=True, has_runs=True), scan)
    return next(stage for stage in stages if stage.name == name)


def test_status_tells_done_excluded_failed_killed_and_waiting_apart(study, capsys):
    done = stage_of(study, "sub-01", "alignment")
    write(study / done.output, "{}")
    write_exclusions(study / done.exclusions, [])
    out = stage_of(study, "sub-02", "alignment")
    write(study / out.output, "")
    reason = "E-RUN-B01 x.nii.gz: truncated. Fix: copy it again"
    write_exclusions(
        study / out.exclusions, [Exclusion("sub-02", "1", stage="align_run", code="E", reason=reason)]
    )
    failed = stage_of(study, "sub-03", "alignment")
    write(
        study / failed.log,
        "INFO begun\nTraceback (most recent call last):\n  File x\nMemoryError: asked for 9 GB\n",
    )
    write(study / stage_of(study, "sub-04", "alignment").log, "INFO begun\n")
    (study / stage_of(study, "sub-05", "alignment").log).write_bytes(b"\xff\xfe")
    capsys.readouterr()
    assert main(["status", "--study", str(study)]) == 1
    lines = capsys.readouterr().out.splitlines()
    header = lines[0].split("\t")
    assert header[:5] == ["participant", "session", "anatomy", "alignment", "resampling"]
    column = header.index("alignment")
    states = {
        tuple(cells[:2]): cells[column] for line in lines if len(cells := line.split("\t")) == len(header)
    }
    assert [states[person, "1"] for person in PEOPLE] == [
        "done",
        "excluded",
        "failed",
        "killed",
        "killed",
        "waiting",
    ]
    told = "\n".join(lines)
    assert f"excluded sub-02 1, alignment: {reason}" in told
    assert (
        "failed sub-03 1, alignment (software): MemoryError: asked for 9 GB. Next: read logs/align_run/"
        in told
    )
    assert "killed sub-04 1, alignment: it ended without a word" in told


@pytest.mark.parametrize("option", ["--participant-label", "--session-label", "--task-id"])
def test_a_group_result_of_some_people_or_scans_is_refused(tmp_path, study, workflow, capfd, option):
    assert app(tmp_path, "group", option, "1") == 2
    assert "E-CONF-A04" in capfd.readouterr().err
    assert not (study / "results").exists()


def test_status_names_what_the_index_left_out(tmp_path, capsys):
    folder = make_bids(tmp_path, ["broken JSON", "session missing"])
    main(["index", "--study", str(folder)])
    capsys.readouterr()
    assert main(["status", "--study", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "excluded sub-02 1 memory 1 (automatic): E-BIDS-A11" in told
    assert "remark sub-04 3 (automatic): W-BIDS-A07" in told


def test_every_rule_of_the_workflow_has_its_files_and_its_stage_in_one_table():
    root = Path(__file__).resolve().parents[1]
    text = "\n".join(path.read_text() for path in sorted((root / "workflow/rules").glob("*.smk")))
    assert sorted(re.findall(r"^rule (\w+):", text, flags=re.MULTILINE)) == sorted(RULES)
    assert {path.stem for path in (root / "workflow/scripts").glob("*.py")} == set(RULES)
    assert "results/" not in text
    study = load_study(root / "config/config.yaml")
    layout = Layout(has_sessions=True, has_runs=False)
    scan = {"participant_id": "sub-01", "session_id": "1", "task": "memory", "run": "n/a"}
    stages = status.stages_of(study, layout, scan | dict.fromkeys(("bold", "events", "physio"), "x"))
    stages += status.study_stages(study, layout)
    in_study = {name for name, rule in RULES.items() if rule.is_in(study)}
    assert {stage.rule for stage in stages} == in_study
    assert len({stage.log for stage in stages}) == len({stage.output for stage in stages}) == len(stages)


def test_a_simulation_never_writes_over_a_dataset(tmp_path, capsys):
    make_bids(tmp_path)
    assert main(["simulate", str(tmp_path), "--participants", "4"]) == 1
    assert "is not empty" in capsys.readouterr().err
