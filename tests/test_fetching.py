"""Atlases are fetched once, by one command, with their sha256; nothing else uses a network."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.utils import Bunch

from reconfmri.bids import sha256
from reconfmri.checks import check_study
from reconfmri.cli import main
from reconfmri.config import Atlas, parse_config
from reconfmri.fetching import ARCHIVE, RECORD, check_fetched, fetch, refuse_unfetched
from reconfmri.report.methods import Facts, methods_text
from reconfmri.rois import carry_atlas
from reconfmri.tables import read_table

ROOT = Path(__file__).resolve().parents[1]
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = -90, -126, -72


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def place(tmp_path):
    """A folder with an atlas, and the address of a server on this machine that shows it."""
    folder = tmp_path / "server"
    folder.mkdir()
    labels = np.zeros((46, 55, 46), np.int16)
    labels[10:16, 25:31, 10:16] = 7
    nib.save(nib.Nifti1Image(labels, AFFINE), folder / "a.nii.gz")
    (folder / "a.tsv").write_text("index\tname\n7\tnucleus\n", encoding="utf-8")
    (folder / "no.nii.gz").write_text("<html>not here</html>")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def raw_study(address, image="a.nii.gz"):
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    raw["rois"]["atlases"] = {
        "own": {
            "image": "atlases/own.nii.gz",
            "labels": "atlases/own.tsv",
            "space": "MNI152NLin2009cAsym",
            "image_from": f"{address}/{image}",
            "labels_from": f"{address}/a.tsv",
        }
    }
    raw["rois"]["regions"]["nucleus"] = {"labels": ["nucleus"], "atlas": "own"}
    return raw


def folder_of(tmp_path, raw):
    folder = tmp_path / "study"
    (folder / "config").mkdir(parents=True, exist_ok=True)
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return folder


def test_an_atlas_comes_once_with_its_hash_and_gives_its_region(tmp_path, place, monkeypatch, capsys):
    there, address = place
    folder = folder_of(tmp_path, raw_study(address))
    study = parse_config(raw_study(address))
    assert [p.what for p in check_fetched(folder, study)] == [
        "the atlas's file is to be fetched and is not here"
    ] * 2
    with pytest.raises(ValueError, match="reconfmri fetch"):
        refuse_unfetched(folder, study)
    assert main(["fetch", "--study", str(folder)]) == 0
    assert "atlases/own.nii.gz" in capsys.readouterr().out
    record = read_table(folder / RECORD).set_index("file")
    assert record.loc["atlases/own.nii.gz", "sha256"] == sha256(there / "a.nii.gz")
    assert (folder / "atlases/own.tsv").read_bytes() == (there / "a.tsv").read_bytes()
    assert not list(check_fetched(folder, study))
    refuse_unfetched(folder, study)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was asked again"))
    assert fetch(folder, study) == ["own: here already"]
    monkeypatch.chdir(folder)
    regions = study.rois.model_copy(update={"regions": {"nucleus": study.rois.regions["nucleus"]}})
    _, _, table = carry_atlas(regions, resolution=4.0)
    assert table["volume_mm3"][0] == pytest.approx(24.0**3, rel=0.2)  # edges on a grid half a voxel aside


def test_files_work_as_sources_and_a_changed_one_is_refused(tmp_path, place):
    there, _ = place
    raw = raw_study(there.as_uri())
    folder, study = folder_of(tmp_path, raw), parse_config(raw)
    fetch(folder, study)
    (folder / "atlases/own.tsv").write_text("index\tname\n8\tnucleus\n", encoding="utf-8")
    [problem] = check_fetched(folder, study)
    assert (problem.severity, problem.file) == ("STOP", "atlases/own.tsv")
    assert problem in check_study(folder)
    with pytest.raises(ValueError, match="not what was fetched"):
        fetch(folder, study)
    (folder / "atlases/own.tsv").unlink()
    fetch(folder, study)
    assert not list(check_fetched(folder, study))
    (folder / "atlases/own.tsv").unlink()
    (there / "a.tsv").write_text("index\tname\n9\tnucleus\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another content than when it was first fetched"):
        fetch(folder, study)


@pytest.mark.parametrize(
    ("image", "says"), [("absent.nii.gz", "cannot be fetched.*404"), ("no.nii.gz", "is no atlas")]
)
def test_a_source_that_gives_no_atlas_leaves_nothing(tmp_path, place, image, says, capsys):
    _, address = place
    folder = folder_of(tmp_path, raw_study(address, image))
    assert main(["fetch", "--study", str(folder)]) == 1
    assert re.search(f"E-DATA-B10.*{says}.*Fix: ", capsys.readouterr().err)
    assert not (folder / "atlases").exists()
    assert not (folder / RECORD).exists()


def test_a_file_of_somebody_is_never_overwritten(tmp_path, place):
    _, address = place
    folder, study = folder_of(tmp_path, raw_study(address)), parse_config(raw_study(address))
    (folder / "atlases").mkdir()
    (folder / "atlases/own.tsv").write_text("mine")
    with pytest.raises(ValueError, match="is here and was not fetched"):
        fetch(folder, study)
    assert (folder / "atlases/own.tsv").read_text() == "mine"


def test_templateflows_paths_are_of_its_archive(tmp_path, place, monkeypatch):
    _, address = place
    monkeypatch.setattr("reconfmri.fetching.ARCHIVE", f"{address}/")
    assert ARCHIVE.startswith("https://")
    raw = raw_study("templateflow:")
    own = raw["rois"]["atlases"]["own"]
    own |= {"image_from": "templateflow:a.nii.gz", "labels_from": "templateflow:a.tsv"}
    fetch(folder_of(tmp_path, raw), parse_config(raw))
    assert (tmp_path / "study/atlases/own.nii.gz").is_file()


def test_nilearns_atlases_come_with_their_table_in_the_declared_template(tmp_path, place, monkeypatch):
    from nilearn import datasets

    there, _ = place
    asked = {}

    def fetcher(n_rois=10, *, data_dir, verbose):
        asked["n_rois"] = n_rois
        table = pd.DataFrame({"index": [0, 7], "name": ["Background", "nucleus"]})
        return Bunch(maps=str(there / "a.nii.gz"), lut=table, template="MNI152NLin6Asym")

    monkeypatch.setattr(datasets, "fetch_atlas_mine", fetcher, raising=False)
    raw = raw_study("http://x")
    own = raw["rois"]["atlases"]["own"] | {"image_from": "nilearn:mine?n_rois=200"}
    del own["labels_from"]
    raw["rois"]["atlases"]["own"] = own
    folder = folder_of(tmp_path, raw)
    with pytest.raises(ValueError, match="lies in MNI152NLin6Asym, the study file says"):
        fetch(folder, parse_config(raw))
    own["space"] = "MNI152NLin6Asym"
    fetch(folder, parse_config(raw))
    assert asked == {"n_rois": 200}
    assert (folder / "atlases/own.tsv").read_text().splitlines() == ["index\tname", "7\tnucleus"]
    own["image_from"] = "nilearn:nobody"
    (folder / RECORD).unlink()
    for name in ("own.tsv", "own.nii.gz"):
        (folder / "atlases" / name).unlink()
    with pytest.raises(ValueError, match="nilearn has no atlas 'nobody'"):
        fetch(folder, parse_config(raw))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_from": "ftp://x/a.nii"}, "expected one that begins with"),
        ({"labels_from": "https://x/a.tsv"}, "belong together"),
        ({"image_from": "https://x/a.nii"}, "belong together"),
        ({"image_from": "nilearn:a", "labels_from": "https://x/a.tsv"}, "belong together"),
    ],
)
def test_a_senseless_source_is_one_line(change, says):
    with pytest.raises(ValueError, match=says):
        Atlas(image="a.nii.gz", labels="a.tsv", space="MNI152NLin6Asym", **change)


def test_the_methods_name_the_source_and_no_other_module_uses_a_network():
    texts = [
        dict(methods_text(parse_config(raw_study(address)), Facts(8, 28)))["Regions of interest"]
        for address in ("https://one", "https://two")
    ]
    assert "fetched from https://one/a.nii.gz" in texts[0]
    assert texts[0] != texts[1]
    words = r"urllib\.request|http\.client|import requests|socket\.create_connection|nilearn.* datasets"
    using = {p.name for p in (ROOT / "src").rglob("*.py") if re.search(words, p.read_text(encoding="utf-8"))}
    assert using == {"fetching.py"}
