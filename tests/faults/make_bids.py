"""A tiny trial as BIDS (6 people x 3 sessions, 12 x 12 x 10 voxels x 60 volumes) with named faults."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

PEOPLE = [f"sub-{n:02d}" for n in range(1, 7)]
SESSIONS = ["1", "2", "3"]
TR = 2.0
N_VOLUMES = 60
EVENTS = [("trauma", 10, 20), ("relax", 40, 20), ("trauma", 70, 20), ("relax", 100, 15)]
PARTICIPANTS, PCL5 = "participants.tsv", "phenotype/pcl5.tsv"
SIDECAR, EVENTS_FILE = "task-memory_bold.json", "task-memory_run-1_events.tsv"

STUDY = """name: A tiny trial
bids: {bids}
sessions:
  - {{id: "1", name: baseline, day: 0}}
  - {{id: "2", name: end of treatment, day: 7}}
  - {{id: "3", name: 30 days, day: 30}}
tasks:
  memory:
    events: each
    conditions: {{trauma: trauma, relax: neutral}}
rois:
  regions:
    amygdala_left: {{labels: [Left Amygdala], threshold: 0.5}}
    amygdala_right: {{labels: [Right Amygdala], threshold: 0.5}}
  combined: {{amygdala: [amygdala_left, amygdala_right]}}
first_level:
  task: memory
  contrasts: {{trauma-neutral: {{trauma: 1, neutral: -1}}}}
scales:
  pcl5: {{total: total, range: [0, 80], unit: PCL-5 points}}
group:
  arms: {{active: ketamine, control: midazolam}}
  outcomes: [amygdala.trauma-neutral, pcl5.total]
  primary: {{outcome: amygdala.trauma-neutral, session: "2"}}
"""


def stem(person: str, session: str, rest: str = "task-memory_run-1") -> str:
    return f"{person}/ses-{session}/func/{person}_ses-{session}_{rest}"


def bold(person: str, session: str, run: str = "1") -> str:
    return stem(person, session, f"task-memory_run-{run}_bold.nii.gz")


def make_bids(tmp_path: Path, faults: list[str] | tuple[str, ...] = (), people: list[str] = PEOPLE) -> Path:
    """Write the dataset `tmp_path/bids` with the faults named, and its study folder, which is returned."""
    root, study = tmp_path / "bids", tmp_path / "study"
    rng = np.random.default_rng(1)
    write(root / "dataset_description.json", json.dumps({"Name": "tiny", "BIDSVersion": "1.10.0"}))
    write(root / SIDECAR, json.dumps({"TaskName": "memory", "RepetitionTime": TR}))
    write(root / PARTICIPANTS, "participant_id\tage\n" + "".join(f"{p}\t30\n" for p in people))
    rows = [f"{p}\tses-{s}\t40\n" for p in people for s in SESSIONS]
    write(root / PCL5, "participant_id\tsession_id\ttotal\n" + "".join(rows))
    for person in people:
        save_image(root / f"{person}/ses-1/anat/{person}_ses-1_T1w.nii.gz", rng, volumes=1)
        for number, session in enumerate(SESSIONS):
            save_image(root / bold(person, session), rng)
            shift = number + len(person) * PEOPLE.index(person) / 10 if person in PEOPLE else number
            table = "".join(f"{onset + shift:.1f}\t{length}\t{kind}\n" for kind, onset, length in EVENTS)
            write(
                root / stem(person, session, "task-memory_run-1_events.tsv"),
                "onset\tduration\ttrial_type\n" + table,
            )
    write(study / "config/config.yaml", STUDY.format(bids="../bids"))
    arms = "".join(f"{p}\t{'ketamine' if n % 2 else 'midazolam'}\tn/a\n" for n, p in enumerate(people))
    write(study / "allocation.tsv", "participant_id\tarm\tstratum\n" + arms)
    for fault in faults:
        FAULTS[fault](root, study)
    return study


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def save_image(
    path: Path, rng: np.random.Generator, *, volumes: int = N_VOLUMES, tr: float = TR, unit: str = "sec"
) -> None:
    shape = (12, 12, 10, volumes) if volumes > 1 else (12, 12, 10)
    image = nibabel.Nifti1Image(rng.integers(100, 200, shape).astype(np.int16), np.diag([3.0, 3, 3, 1]))
    image.header.set_xyzt_units("mm", unit)
    if volumes > 1:
        image.header.set_zooms((3, 3, 3, tr))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} lacks {old!r}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def in_study(old: str, new: str) -> Callable[[Path, Path], None]:
    return lambda _root, study: edit(study / "config/config.yaml", old, new)


def in_data(path: str, old: str, new: str) -> Callable[[Path, Path], None]:
    return lambda root, _study: edit(root / path, old, new)


def _copy_uncompressed(root: Path, _study: Path) -> None:
    image = root / bold("sub-02", "2")
    image.with_name(image.name.removesuffix(".gz")).write_bytes(gzip.decompress(image.read_bytes()))


def _second_claim(root: Path, _study: Path) -> None:
    shutil.copy(root / bold("sub-02", "2"), root / bold("sub-02", "2", run="01"))


def _name_of_another(root: Path, _study: Path) -> None:
    (root / bold("sub-03", "1")).rename(root / bold("sub-03", "1").replace("_ses-1_", "_ses-2_"))


def _bad_label(root: Path, _study: Path) -> None:
    (root / bold("sub-03", "1")).rename(root / stem("sub-03", "1", "task-mem ory_run-1_bold.nii.gz"))


def _bad_folder(root: Path, _study: Path) -> None:
    (root / "sub-06").rename(root / "sub-06;rm")


def _no_session(root: Path, _study: Path) -> None:
    shutil.rmtree(root / "sub-04/ses-3")


def _two_runs(root: Path, study: Path) -> None:
    """Everybody has two runs in every session, sub-05 one in session 2."""
    for image in sorted(root.glob("sub-*/ses-*/func/*_bold.nii.gz")):
        shutil.copy(image, str(image).replace("run-1", "run-2"))
        events = str(image).replace("_bold.nii.gz", "_events.tsv")
        shutil.copy(events, events.replace("run-1", "run-2"))
    for left in root.glob("sub-05/ses-2/func/*run-2*"):
        left.unlink()


def _two_runs_wanted(root: Path, study: Path) -> None:
    _two_runs(root, study)
    edit(study / "config/config.yaml", "    events: each", "    events: each\n    min_runs: 2")


def _other_tr(root: Path, _study: Path) -> None:
    """A sidecar of one person says 0.8 s, and so do the headers below it."""
    write(root / "sub-01/sub-01_task-memory_bold.json", json.dumps({"RepetitionTime": 0.8}))
    for image in root.glob("sub-01/ses-*/func/*_bold.nii.gz"):
        save_image(image, np.random.default_rng(2), tr=0.8)


def _other_tr_allowed(root: Path, study: Path) -> None:
    _other_tr(root, study)
    edit(study / "config/config.yaml", "    events: each", "    events: each\n    mixed_tr: true")
    rows = "".join(f"{0.4 * onset:g}\t{0.4 * length:g}\t{kind}\n" for kind, onset, length in EVENTS)
    for session in SESSIONS:
        write(root / stem("sub-01", session, EVENTS_FILE), "onset\tduration\ttrial_type\n" + rows)


def _harmless_bytes(root: Path, _study: Path) -> None:
    """A byte order mark and Windows line ends are read as if they were not there."""
    for path in (
        root / PARTICIPANTS,
        root / stem("sub-01", "1", "task-memory_run-1_events.tsv"),
        root / SIDECAR,
    ):
        text = path.read_text(encoding="utf-8").replace("\n", "\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())


def _mixed_versions(root: Path, _study: Path) -> None:
    for folder, version in (("fmriprep", "23.1.4"), ("fmriprep-old", "20.2.0")):
        described = {"Name": "x", "GeneratedBy": [{"Name": "fMRIPrep", "Version": version}]}
        write(root / "derivatives" / folder / "dataset_description.json", json.dumps(described))


def _third_arm(_root: Path, study: Path) -> None:
    edit(study / "allocation.tsv", "sub-01\tmidazolam", "sub-01\tsaline")


def _empty_arm(_root: Path, study: Path) -> None:
    table = study / "allocation.tsv"
    table.write_text(table.read_text().replace("midazolam", "ketamine") + "sub-99\tmidazolam\tn/a\n")


def _no_tr(root: Path, _study: Path) -> None:
    edit(root / SIDECAR, f', "RepetitionTime": {TR}', "")
    for person in PEOPLE[1:]:
        write(root / f"{person}/{person}_task-memory_bold.json", json.dumps({"RepetitionTime": TR}))


def _bad_json(root: Path, _study: Path) -> None:
    write(root / stem("sub-02", "1", "task-memory_run-1_bold.json"), '{"EchoTime": 0.03,\n "FlipAngle": }')


def _no_rows(root: Path, study: Path) -> None:
    edit(root / PARTICIPANTS, "sub-06\t30\n", "")


def _number_ids(root: Path, study: Path) -> None:
    """Labels that a careless reader takes for a number or for nothing: 001, NA."""
    for old, new in (("sub-01", "sub-001"), ("sub-02", "sub-NA")):
        for path in sorted(root.rglob(f"*{old}*"), key=lambda path: -len(path.parts)):
            path.rename(path.with_name(path.name.replace(old, new)))
        for table in (root / PARTICIPANTS, root / PCL5, study / "allocation.tsv"):
            table.write_text(table.read_text().replace(old, new))
    for table, old, new in (
        (study / "allocation.tsv", "midazolam", "None"),
        (study / "config/config.yaml", "midazolam", '"None"'),
    ):
        table.write_text(table.read_text().replace(old, new))


def _field_maps(root: Path, *, people: list[str] = PEOPLE, faulty: dict[str, object] | None = None) -> None:
    """A phase difference in every session of `people`; in session 1 of sub-02 its sidecar says `faulty`."""
    edit(root / SIDECAR, '"TaskName"', '"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.03, "TaskName"')
    for person in people:
        for session in SESSIONS:
            start = f"{person}/ses-{session}/fmap/{person}_ses-{session}_"
            for suffix in ("phasediff", "magnitude1"):
                save_image(root / f"{start}{suffix}.nii.gz", np.random.default_rng(3), volumes=1)
            told = {"EchoTime1": 4.92e-3, "EchoTime2": 7.38e-3}
            told["IntendedFor"] = bold(person, session).partition("/")[2]
            if faulty and (person, session) == ("sub-02", "1"):
                told |= faulty
            write(root / f"{start}phasediff.json", json.dumps(told))


def _lost_link(root: Path, _study: Path) -> None:
    _field_maps(root)
    image = root / "sub-02/ses-1/fmap/sub-02_ses-1_magnitude1.nii.gz"
    image.unlink()
    image.symlink_to("../../../.git/annex/absent")


def _slices(values: list[float]) -> Callable[[Path, Path], None]:
    own = stem("sub-02", "1", "task-memory_run-1_bold.json")
    return lambda root, _: write(root / own, json.dumps({"SliceTiming": values}))


EVENTS_OF = stem("sub-02", "1", "task-memory_run-1_events.tsv")
FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "no description": lambda root, _: (root / "dataset_description.json").unlink(),
    "empty description": in_data("dataset_description.json", '"BIDSVersion"', '"Version"'),
    "folder without row": _no_rows,
    "row without folder": in_data(PARTICIPANTS, "sub-06\t30\n", "sub-06\t30\nsub-07\t30\n"),
    "row twice": in_data(PARTICIPANTS, "sub-02\t30\n", "sub-02\t30\nsub-01\t31\n"),
    "phenotype row twice": in_data(PCL5, "sub-01\tses-2\t40", "sub-01\tses-1\t40"),
    "labels like numbers": _number_ids,
    "both .nii and .nii.gz": _copy_uncompressed,
    "two files of one run": _second_claim,
    "session in name": _name_of_another,
    "space in name": _bad_label,
    "semicolon in folder": _bad_folder,
    "id with a path": in_data(PARTICIPANTS, "sub-06\t", "../x\t"),
    "session missing": _no_session,
    "run missing": _two_runs,
    "run missing, two wanted": _two_runs_wanted,
    "no RepetitionTime": _no_tr,
    "RepetitionTime in ms": in_data(SIDECAR, "2.0", "2000"),
    "other TR": _other_tr,
    "other TR, allowed": _other_tr_allowed,
    "broken JSON": _bad_json,
    "ragged events": in_data(EVENTS_OF, "\trelax\n", "\trelax\textra\n"),
    "BOM and CRLF": _harmless_bytes,
    "mixed derivatives": _mixed_versions,
    "unknown key": in_study("first_level:", "smothing: 5.0\nfirst_level:"),
    "misspelt key": in_study("  task: memory\n  contrasts", "  high_pas: 0.01\n  task: memory\n  contrasts"),
    "resolution 2000": in_study("rois:", "preprocessing: {resolution: 2000}\nrois:"),
    "resolution 6mm": in_study("rois:", 'preprocessing: {resolution: "6mm"}\nrois:'),
    "arm label yes": in_study("active: ketamine", "active: yes"),
    "session id as number": in_study('id: "2"', "id: 2"),
    "key twice": in_study("name: A tiny trial", "name: A tiny trial\nname: Another"),
    "absent condition": in_study("{trauma: 1, neutral: -1}", "{traumma: 1, neutral: -1}"),
    "absent trial type": in_study("{trauma: trauma,", "{script: trauma,"),
    "misspelt confounds": in_study("  contrasts", "  confounds: [motion25]\n  contrasts"),
    "absent arm": in_study("active: ketamine", "active: ketamin"),
    "absent atlas label": in_study("[Left Amygdala]", "[Left Amigdala]"),
    "empty arm": _empty_arm,
    "third arm": _third_arm,
    "slice times": _slices([0.2 * n for n in range(10)]),
    "slice times in ms": _slices([200.0 * n for n in range(10)]),
    "too few slice times": _slices([0.0, 1.0]),
    "distortion by registration": in_study("rois:", "preprocessing: {distortion: registration}\nrois:"),
    "field maps": lambda root, _: _field_maps(root),
    "field maps without echo": lambda root, _: _field_maps(root, faulty={"EchoTime2": 4.92e-3}),
    "field maps for nobody": lambda root, _: _field_maps(root, faulty={"IntendedFor": []}),
    "field map behind a lost link": _lost_link,
    "field maps of some": lambda root, _: _field_maps(root, people=PEOPLE[1:]),
    "yte": in_study("name: A", "__use_yte__: true\nname: A"),
}
