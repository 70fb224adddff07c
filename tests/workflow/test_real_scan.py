"""One real person by configuration alone: `reconfmri run` with config/trials/studyforrest_sub02.yaml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from reconfmri.tables import read_table

ROOT = Path(__file__).resolve().parents[2]
SEEN = ("face", "house", "scene", "scramble")
FUNC = "results/derivatives/sub-02/func"


@pytest.fixture(scope="module")
def study(tmp_path_factory, real_data):
    """The participant level of the real dataset, as a user would start it."""
    folder = tmp_path_factory.mktemp("real") / "study"
    command = ["run", str(real_data / "studyforrest_sub02"), str(folder), "participant", "--n-cpus", "2"]
    command += ["--config", str(ROOT / "config" / "trials" / "studyforrest_sub02.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", "reconfmri", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


def z_map(study, contrast):
    (path,) = (study / FUNC).glob(f"*_contrast-{contrast}_stat-z_statmap.nii.gz")
    return nib.load(path)


def test_nothing_is_excluded(study):
    tables = [read_table(path) for path in (study / "results").rglob("*_exclusions.tsv")]
    assert sum(map(len, tables)) == 0


def test_more_voxels_answer_than_in_a_plain_fit(study):
    """A fit in native space with the same smoothing and filter has 10.4 % of its brain above z 3.1."""
    z = z_map(study, "AllBaseline").get_fdata()
    (path,) = (study / FUNC).glob("*_space-*_desc-brain_mask.nii.gz")
    inside = nib.load(path).get_fdata() > 0
    assert (z[inside] > 3.1).mean() > 0.104


def test_faces_are_seen_in_the_right_fusiform_gyrus(study):
    """Published peaks: x 38 to 46, y -60 to -42, z -26 to -14 mm.

    This person's peak lies a few millimetres above that box with any set of motion regressors, and where ANTs
    carries it too (docs/preprocessing.md); a second one is inside.
    """
    image = z_map(study, "FaceScramble")
    z = np.nan_to_num(image.get_fdata())
    low, high = np.array([38, -60, -26]), np.array([46, -42, -14])
    peak = nib.affines.apply_affine(image.affine, np.unravel_index(z.argmax(), z.shape))
    assert np.linalg.norm(np.maximum(0, np.maximum(low - peak, peak - high))) <= 6, peak
    # 4.5 by nilearn's noise, which makes z here 1.1 times as large (docs/first_level.md)
    summits = np.argwhere((ndimage.maximum_filter(z, 5) == z) & (z > 4.5 / 1.1))
    places = nib.affines.apply_affine(image.affine, summits)
    assert ((places >= low - 0.5) & (places <= high + 0.5)).all(axis=1).any(), places


def test_fusiform_and_parahippocampal_responses_are_in_their_known_order(study):
    """Kanwisher 1997, Epstein & Kanwisher 1998: faces against houses and scenes, and the other way round.

    The atlas's fusiform label (6.4 cm3) reaches into cortex that scenes drive and has no such order.
    """
    (path,) = (study / FUNC).glob("*_desc-activation_measures.tsv")
    value = read_table(path, numeric=["value"]).set_index("outcome")["value"]
    responses = {
        region: sorted(SEEN, key=lambda name: value[f"{region}.{name}"])
        for region in ("fusiform_sphere", "parahippocampal_sphere", "parahippocampal")
    }
    assert responses.pop("fusiform_sphere")[-1] == "face"
    for region, order in responses.items():
        assert order[2:] == ["house", "scene"], f"{region}: {order}"


def test_pictures_and_page_are_made_and_kept_for_the_eye(study):
    """They are copied to the folder RECONFMRI_PICTURES, in CI artefacts/real_scan: open participants/*.html.

    Without it they stay in pytest's temporary folder, real*/study/results.
    """
    results = (study / "results").resolve()
    page = results / "participants" / "sub-02.html"
    addresses = re.findall(r'<img src="([^"]+)"', page.read_text(encoding="utf-8"))
    kinds = [re.search(r"desc-([a-z]+)_", address)[1] for address in addresses]
    assert kinds == ["regions", "edges", "outlines", "tsnr", "carpet"]
    pictures = [(page.parent / address).resolve() for address in addresses]
    for picture in pictures:
        assert picture.stat().st_size > 20_000, picture
    folder = os.environ.get("RECONFMRI_PICTURES")
    for path in [page, page.with_name("index.html"), *pictures] if folder else []:
        kept = Path(folder) / path.relative_to(results)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
