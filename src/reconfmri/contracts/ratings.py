"""What a rater may say of a scan: the contract between the rating page, its exported file and `decide`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from reconfmri.exclusions import UNIT
from reconfmri.files import InputError

PAGE = "results/participants/cockpit.html"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)

FORMAT = "reconfmri ratings 1"
KEEP, UNSURE, EXCLUDE = "keep", "unsure", "exclude"
RATINGS = {KEEP: "Keep", UNSURE: "Unsure", EXCLUDE: "Exclude"}  # keys 1, 2, 3 of the page, in this order
# As in the rating widget of NiReports (Provins et al.; nireports/assembler/data/rating-widget), by its names.
ARTEFACTS = {
    "head-motion": "Head motion artifacts",
    "eye-spillover": "Eye spillover through phase-encoding axis",
    "noneye-spillover": "Non-eye spillover through phase-encoding axis",
    "coil-failure": "Coil failure",
    "noise-global": "Global noise",
    "noise-local": "Local noise",
    "em-perturbation": "Electromagnetic interference/perturbation",
    "wrap-around": "Problematic field of view / wrap-around",
    "ghost-aliasing": "Aliasing ghosts",
    "ghost-other": "Other ghosts",
    "inu": "Intensity non-uniformity (B1 bias)",
    "field-variation": "Temporal field non-uniformity variation",
    "processing": "Postprocessing: denoising, defacing, resampling happened",
    "uncategorized": "Uncategorized artifact(s)",
}


def digest_of_pictures(addresses: Iterable[str], page: Path) -> str:
    """Return the sha256 of the pictures of a scan, in their order; `addresses` are as in the page."""
    digest = hashlib.sha256()
    for address in addresses:
        path = page.parent / unquote(address)
        digest.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"absent")
    return digest.hexdigest()


def pictures_now(page: Path) -> dict[tuple[str, ...], str]:
    """Return scan -> digest of the pictures that lie beside the rating page today.

    Raises
    ------
    ValueError
        There is no rating page, or it is none that this version made.
    """
    fix = "make it again: `snakemake results/participants/cockpit.html`"
    if not page.is_file():
        raise InputError(PAGE, "is not there, so nothing shows what was rated", fix=fix, code="E-CONF-D08")
    found = DATA.search(page.read_text(encoding="utf-8"))
    if found is None:
        raise InputError(PAGE, "is no rating page", fix=fix, code="E-CONF-D08")
    scans = json.loads(found[1])["scans"]
    return {
        tuple(str(scan[name]) for name in UNIT): digest_of_pictures(
            (picture["address"] for picture in scan["pictures"]), page
        )
        for scan in scans
    }
