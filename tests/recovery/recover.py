"""Recovery of the planted truth, image by image: `python -m tests.recovery.recover --seeds 20 --cores 2`.

Each seed is a small trial: simulated, preprocessed, measured and answered by the library, then compared with
its truth.json. Printed at the end, with the bounds of the project:

- estimate on psc_expected over scans: slope 0.90 to 1.10, intercept at most 0.03 %;
- the recovery coefficient per region: estimate on psc_source;
- contrasts of psc_expected inside the 95 % intervals: at least 90 % of outcome x visit x seed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from reconfmri import group, rois
from reconfmri.body import skin_conductance
from reconfmri.config import Study, load_study
from reconfmri.group import frequentist
from reconfmri.group.asked import Asked
from reconfmri.preprocess import AlignmentFiles, AnatomyFiles, PreprocessedFiles, embedded
from reconfmri.provenance import workflow_folder
from reconfmri.scales.scoring import score_scale
from reconfmri.signal import connectivity, first_level
from reconfmri.simulate.trial import simulate_trial
from reconfmri.tables import read_table

SLOPE, INTERCEPT, COVERAGE = (0.90, 1.10), 0.03, 0.90
SESSIONS = ("1", "2")
COLUMNS = ["participant_id", "session_id", "domain", "outcome", "value", "se", "unit"]


@dataclass(frozen=True)
class Seed:
    """What one small trial gave: per scan and outcome estimate and truth; per question interval and truth."""

    scans: pd.DataFrame  # COLUMNS, psc_expected, psc_source
    answers: pd.DataFrame  # estimates, truth (contrast of psc_expected), difference (planted, population)


def run_seed(seed: int, *, participants: int = 8, cores: int = 1, study: Study | None = None) -> Seed:
    """Return what a simulated trial of two visits gives back."""
    study = study or load_study(workflow_folder() / "config" / "config.yaml")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        simulate_trial(
            out, participants=participants, seed=seed, sessions=SESSIONS, study=study, processes=cores
        )
        nib.save(region_masks(study.model_dump_json()), out / "masks.nii.gz")
        people = sorted(path.name for path in (out / "bids").glob("sub-*"))
        with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
            parts = list(pool.map(measure_person, people, [out] * len(people), [study] * len(people)))
        measures = pd.concat([*parts, *_clinical(out, study)], ignore_index=True)
        truth = json.loads((out / "bids" / "truth.json").read_text(encoding="utf-8"))
        allocation = read_table(out / "allocation.tsv")
    measures = measures.assign(coverage=np.nan, n_runs=1)
    estimates, _ = group.answer(Asked(measures, allocation, study.group, list(SESSIONS), seed))
    return Seed(
        beside_truth(measures, truth), answers_beside_truth(estimates, measures, truth, allocation, study)
    )


@cache
def region_masks(study_json: str) -> nib.Nifti1Image:
    """Return the study's regions on its grid; the same for every seed."""
    study = Study.model_validate_json(study_json)
    masks, affine, _ = rois.carry_atlas(study.rois, resolution=study.preprocessing.resolution)
    return nib.Nifti1Image(masks, affine)


def measure_person(person: str, out: Path, study: Study) -> pd.DataFrame:
    """Return the rows of every scan of a participant, by direct calls of the library."""
    names = ("t1w.nii.gz", "mask.nii.gz", "dseg.nii.gz", "map.nii.gz", "facts.json")
    anatomy = AnatomyFiles(*(out / f"{person}_{name}" for name in names))
    t1w = out / "bids" / person / "ses-1" / "anat" / f"{person}_ses-1_T1w.nii.gz"
    embedded.prepare_anatomy({t1w: ""}, outputs=anatomy, settings=study.preprocessing)
    bolds = sorted((out / "bids" / person).glob("ses-*/func/*_bold.nii.gz"))
    return pd.concat([_measure_scan(bold, t1w, anatomy, out, study) for bold in bolds])


def _measure_scan(bold: Path, t1w: Path, anatomy: AnatomyFiles, out: Path, study: Study) -> pd.DataFrame:
    stem = str(out / bold.name.removesuffix("_bold.nii.gz"))
    person, session = bold.name.split("_")[0], bold.parent.parent.name.removeprefix("ses-")
    tr = float(json.loads(Path(str(bold).replace(".nii.gz", ".json")).read_text())["RepetitionTime"])
    alignment = AlignmentFiles(
        *(Path(stem + end) for end in ("_ref.nii.gz", "_native.nii.gz", "_al.json", "_shift.nii.gz"))
    )
    ends = ("_pre.nii.gz", "_mask.nii.gz", "_dseg.nii.gz", "_conf.tsv", "_meta.json")
    files = PreprocessedFiles(*(Path(stem + end) for end in ends))
    embedded.align_run(bold, t1w, anatomy, outputs=alignment)
    run = embedded.resample_run(bold, tr, anatomy, alignment, outputs=files, settings=study.preprocessing)
    signals, _, _ = rois.extract_region_signals(
        run.bold,
        run.mask,
        out / "masks.nii.gz",
        study.rois,
        non_steady=run.metadata["NonSteadyStateVolumes"],
    )
    files.bold.unlink()
    confounds = read_table(run.confounds).astype(float)
    events = first_level.read_events(Path(str(bold).replace("_bold.nii.gz", "_events.tsv")))
    rows = pd.concat(
        [
            _activation(signals, confounds, events, tr, study),
            _coupling(signals, confounds, events, tr, study),
            _skin(bold, events, study),
        ]
    )
    return rows.assign(participant_id=person, session_id=session)[COLUMNS]


def _activation(
    signals: pd.DataFrame, confounds: pd.DataFrame, events: pd.DataFrame, tr: float, study: Study
) -> pd.DataFrame:
    settings = study.first_level
    task = study.tasks[settings.task]
    design = first_level.build_design(
        events, confounds, tr=tr, n_volumes=len(signals), task=task, settings=settings
    )
    return first_level.fit_regions(
        signals, design, contrasts=settings.every_contrast, task=task, noise=settings.noise
    )[0]


def _coupling(
    signals: pd.DataFrame, confounds: pd.DataFrame, events: pd.DataFrame, tr: float, study: Study
) -> pd.DataFrame:
    settings = study.connectivity
    task = study.tasks[settings.task]
    return connectivity.couple(signals, confounds, events, tr=tr, task=task, settings=settings)[0]


def _skin(bold: Path, events: pd.DataFrame, study: Study) -> pd.DataFrame:
    recording = Path(str(bold).replace("_bold.nii.gz", "_physio.tsv.gz"))
    sidecar = json.loads(Path(str(recording).replace(".tsv.gz", ".json")).read_text(encoding="utf-8"))
    settings = study.skin_conductance
    task = study.tasks[settings.task]
    return skin_conductance.score_recording(recording, events, sidecar=sidecar, task=task, settings=settings)[
        0
    ]


def _clinical(out: Path, study: Study) -> list[pd.DataFrame]:
    tables = []
    for name, scale in study.scales.items():
        rows, _ = score_scale(read_table(out / "bids" / "phenotype" / f"{name}.tsv"), name, scale)
        tables.append(rows.assign(se=np.nan)[COLUMNS])
    return tables


def beside_truth(measures: pd.DataFrame, truth: dict) -> pd.DataFrame:
    """Return the measures of simulated scans with `psc_expected` and `psc_source` of truth.json."""
    known = pd.DataFrame(
        [
            (scan["participant_id"], scan["session_id"], name, value, scan["psc_source"][name])
            for scan in truth["scans"]
            for name, value in scan["psc_expected"].items()
        ],
        columns=["participant_id", "session_id", "outcome", "psc_expected", "psc_source"],
    )
    return measures.merge(known, on=["participant_id", "session_id", "outcome"], validate="one_to_one")


def answers_beside_truth(
    estimates: pd.DataFrame, measures: pd.DataFrame, truth: dict, allocation: pd.DataFrame, study: Study
) -> pd.DataFrame:
    """Return the estimates of the group models beside the same contrasts of psc_expected."""
    beside = beside_truth(measures, truth)
    expected = beside.assign(value=beside["psc_expected"])[measures.columns]
    true = frequentist.estimate(Asked(expected, allocation, study.group, list(SESSIONS)))
    true = true[true["method"].isin(["ancova", "welch"])]
    key = ["outcome", "estimand", "session"]
    table = estimates.merge(true[[*key, "estimate"]].rename(columns={"estimate": "truth"}), on=key)
    planted = truth["outcomes"]
    table["difference"] = [
        planted[o]["difference"][s] for o, s in zip(table["outcome"], table["session"], strict=True)
    ]
    return table


def line_of(estimate: pd.Series, truth: pd.Series) -> tuple[float, float]:
    """Return slope and intercept of estimates on truth."""
    slope, intercept = np.polyfit(truth.to_numpy(float), estimate.to_numpy(float), 1)
    return float(slope), float(intercept)


def inside(answers: pd.DataFrame, truth: str) -> pd.Series:
    """Whether an interval holds the truth; withheld answers count as misses."""
    numbers = answers[["lower", "upper", truth]].astype(float)
    return (numbers["lower"] <= numbers[truth]) & (numbers[truth] <= numbers["upper"])


def summarise(seeds: list[Seed]) -> bool:
    """Print what was recovered; return whether every bound holds."""
    scans = pd.concat([seed.scans for seed in seeds]).dropna(subset=["value"])
    scans[["region", "contrast"]] = scans["outcome"].str.split(".", n=1, expand=True)
    active = scans[scans["domain"] == "activation"]
    slope, intercept = line_of(active["value"], active["psc_expected"])
    good = SLOPE[0] <= slope <= SLOPE[1] and abs(intercept) <= INTERCEPT
    print(f"\nEstimates on psc_expected, {len(active)} rows: slope {slope:.3f}, intercept {intercept:+.4f} %")
    print("\nregion and contrast: n, slope, intercept %, SD of estimate - expected, mean SE")
    for (region, contrast), rows in active.groupby(["region", "contrast"]):
        a, b = line_of(rows["value"], rows["psc_expected"])
        error = (rows["value"] - rows["psc_expected"]).astype(float)
        spread = f"{error.std():.3f} {rows['se'].mean():.3f}"
        print(f"  {region:18} {contrast:28} {len(rows):4d} {a:6.2f} {b:+.3f} {spread}")
    print("\nRecovery coefficient: expected, and estimate, on psc_source")
    for region, rows in active.groupby("region"):
        pair = (line_of(rows[name], rows["psc_source"])[0] for name in ("psc_expected", "value"))
        print(f"  {region:18} {' '.join(f'{value:6.3f}' for value in pair)}")
    print("\nOther outcomes: n, mean of estimate - expected, its standard error")
    for outcome, rows in scans[scans["domain"] != "activation"].groupby("outcome"):
        error = (rows["value"] - rows["psc_expected"]).astype(float)
        print(f"  {outcome:28} {len(rows):4d} {error.mean():+.3f} {error.std() / np.sqrt(len(rows)):.3f}")
    return _summarise_answers(pd.concat([seed.answers for seed in seeds])) and good


def _summarise_answers(answers: pd.DataFrame) -> bool:
    print("\nShare of 95 % intervals that hold the contrast of psc_expected, and the planted difference")
    good = True
    for (method, estimand), rows in answers.groupby(["method", "estimand"]):
        share, population = inside(rows, "truth").mean(), inside(rows, "difference").mean()
        print(f"  {method:8} {estimand:24} {len(rows):4d} {share:.3f} {population:.3f}")
        good &= bool(share >= COVERAGE)
    return good


def main() -> int:
    """Run the seeds, print the summary; 1 when a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--participants", type=int, default=6)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("recover"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    seeds = []
    for seed in range(given.first, given.first + given.seeds):
        started = time.monotonic()
        seeds.append(run_seed(seed, participants=given.participants, cores=given.cores))
        seeds[-1].scans.to_csv(given.out / f"seed-{seed}_scans.tsv", sep="\t", index=False)
        seeds[-1].answers.to_csv(given.out / f"seed-{seed}_answers.tsv", sep="\t", index=False)
        print(f"seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    return 0 if summarise(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
