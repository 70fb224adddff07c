"""The section on differences in every voxel: maps, clusters, small volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reconfmri.config import Group, Study, Voxels, condition_label
from reconfmri.contracts.voxels import VoxelImage
from reconfmri.figures.labels import estimand_label, session_name
from reconfmri.report.blocks import Block, picture
from reconfmri.report.inputs import ReportInputs
from reconfmri.report.words import list_of
from reconfmri.step import is_empty

MOST_ROWS = 12  # clusters of a map on the page; every one is in voxel_clusters.tsv
INFERENCE = {"tfce": "TFCE", "cluster_mass": "cluster mass"}


def voxel_methods(study: Study, group: Group, settings: Voxels) -> str:
    """The model of every voxel, and how its maps are tested."""
    asked = list_of([estimand_label(name).lower() for name in settings.estimands], comma="; ")
    covariates = " and the covariates" if group.covariates else ""
    text = (
        f"Maps of {list_of(settings.contrasts)} were compared between the arms in every voxel: {asked}. Runs "
        "of a session were combined by fixed effects. The mean model is that of the regions, visits"
        f"{covariates} and arm, fitted by generalised least squares with one unstructured covariance over "
        "visits for all voxels, up to a factor, which was estimated over the voxels by restricted maximum "
        "likelihood without the arms. Visits that were missed are left out, and no person with them. "
        "Standard errors are cluster-robust (CR2) with Satterthwaite's degrees of freedom; beside them is a "
        "marginal model with a working independence and without baseline. Compared are voxels covered by "
        f"at least {settings.min_coverage:g} of the maps of every arm and visit."
    )
    if not settings.permutations:
        return text
    text += (
        f" Corrected p values come from {settings.permutations:,} other draws of the allocation within "
        f"strata (seed {study.seed}), or from every allocation where there are no more, with all visits of a "
        "person as one block: threshold-free cluster enhancement (E = 0.5, H = 2, voxels that share a face, "
        f"exact) and the mass of clusters beyond a two-sided p of {settings.cluster_p:g}, each against the "
        "highest value over voxels, sessions and contrasts of an estimand. What is called significant has a "
        f"p up to {1 - group.level:g}."
    )
    if settings.regions:
        text += f" The same search was made inside {list_of(settings.regions)} alone."
    return text + " Clusters are named by the Harvard-Oxford atlas."


def voxels(inputs: ReportInputs) -> Block:
    """Return the maps of every contrast and estimand with their tables; nothing in a study without them."""
    study, table = inputs.study, inputs.tables.get("voxels")
    settings = study.group.voxels if study.group else None
    if settings is None or table is None or not len(table):
        return {"voxel_maps": []}
    modelled = table[table["method"] == "mmrm"]
    blocks = [
        _block(inputs, str(contrast), str(estimand), rows)
        for (contrast, estimand), rows in modelled.groupby(["contrast", "estimand"], sort=False)
    ]
    return {"voxel_maps": blocks, "voxel_note": _note(settings, modelled)}


def _note(settings: Voxels, rows: pd.DataFrame) -> str:
    draws = rows["n_draws"].dropna()
    tested = "No corrected p values were asked for."
    if len(draws):
        kind = "every allocation that the strata allow" if rows["exact"].eq(True).any() else "draws"
        tested = f"p values are from {int(draws.iloc[0]):,} allocations ({kind}), the trial's among them."
    regions = f" Regions searched alone: {', '.join(settings.regions)}." if settings.regions else ""
    return f"{tested}{regions} All maps, with a JSON each, are in results/group/voxels/."


def _block(inputs: ReportInputs, contrast: str, estimand: str, rows: pd.DataFrame) -> Block:
    study = inputs.study
    pictures = []
    for row in rows[rows["reported"].astype(bool)].to_dict("records"):
        if shown := _picture(inputs, contrast, estimand, row):
            first = study.group is not None and row["session"] == study.group.primary.session
            pictures.append(shown | {"open": first, "title": session_name(study, str(row["session"]))})
    if pictures and not any(item["open"] for item in pictures):
        pictures[0]["open"] = True
    mine = {
        name: table[(table["contrast"] == contrast) & (table["estimand"] == estimand)]
        for name, table in inputs.tables.items()
        if name in ("voxel_clusters", "voxel_regions")
    }
    asked = estimand_label(estimand)
    return {
        "title": f"{condition_label(contrast)}: {asked[:1].lower()}{asked[1:]}",
        "pictures": pictures,
        "rows": [_map_row(study, row) for row in rows.to_dict("records")],
        "clusters": _cluster_rows(study, mine.get("voxel_clusters")),
        "regions": _region_rows(study, mine.get("voxel_regions")),
    }


def _picture(inputs: ReportInputs, contrast: str, estimand: str, row: dict[Any, Any]) -> Block | None:
    import nibabel

    from reconfmri.figures.voxels import difference_map
    from reconfmri.templates import target_brain

    group = inputs.study.group
    files = {path.name: path for path in inputs.voxel_images if not is_empty(path)}
    z, shown = (
        files.get(VoxelImage(contrast, kind, estimand, str(row["session"])).name)
        for kind in ("z", "thresholded")
    )
    if z is None or group is None:
        return None
    significant = None if shown is None else np.asarray(nibabel.load(shown).dataobj) != 0
    figure = difference_map(nibabel.load(z), significant, nibabel.load(target_brain()))
    lines = f" Lines surround voxels with a corrected p up to {1 - group.level:g}." if shown else ""
    return picture(
        figure,
        alt=f"z of the difference in every voxel, {condition_label(contrast)}",
        caption=f"z of the difference at {session_name(inputs.study, str(row['session']))}, not thresholded, "
        f"fainter towards zero. Red: higher in the {group.arms.pair[0]} arm, blue: lower.{lines} Above: the "
        "largest |z| along each line of sight.",
        as_png=True,
    )


def _map_row(study: Study, row: dict[Any, Any]) -> Block:
    session = session_name(study, str(row["session"]))
    if not row["reported"]:
        return {"session": session, "reason": row["reason"]}
    return {
        "session": session,
        "reason": "",
        "n": f"{row['n_active']:.0f} + {row['n_control']:.0f}",
        "voxels": f"{row['n_voxels']:,.0f}",
        "df": _number(row["df"], ".1f"),
        "range": f"{_number(row['lowest_z'], '.2f')} to {_number(row['highest_z'], '.2f')}",
        "tfce": _number(row["p_tfce"], ".3g"),
        "significant": _number(row["n_significant"], ".0f"),
        "mass": _number(row["p_cluster_mass"], ".3g"),
        "alike": _number(row["alike"], ".2f"),
    }


def _cluster_rows(study: Study, table: pd.DataFrame | None) -> list[Block]:
    if table is None:
        return []
    shown = table.groupby(["session", "inference"], sort=False).head(MOST_ROWS)
    return [
        _peak(row)
        | {
            "session": session_name(study, str(row["session"])),
            "inference": INFERENCE[str(row["inference"])],
            "direction": row["direction"],
            "size": f"{row['n_voxels']:,.0f} ({row['volume'] / 1000:.1f} cm³)",
            "p": _number(row["p"], ".3g"),
            "labels": row["labels"] if isinstance(row["labels"], str) else "–",
        }
        for row in shown.to_dict("records")
    ]


def _region_rows(study: Study, table: pd.DataFrame | None) -> list[Block]:
    if table is None:
        return []
    return [
        {"session": session_name(study, str(row["session"])), "region": row["region"], "reason": ""}
        | (
            _peak(row) | {"n": f"{row['n_voxels']:.0f}", "p": _number(row["p"], ".3g")}
            if row["reported"]
            else {"reason": row["reason"]}
        )
        for row in table.to_dict("records")
    ]


def _peak(row: dict[Any, Any]) -> Block:
    return {
        "place": f"{row['x']:.0f}, {row['y']:.0f}, {row['z']:.0f}".replace("-", "−"),
        "peak": _number(row["peak_z"], ".2f"),
        "estimate": f"{_number(row['estimate'], '.2f')} ({_number(row['sd'], '.2f')})",
    }


def _number(value: Any, how: str) -> str:
    return "–" if value is None or value != value else f"{float(value):{how}}".replace("-", "−")
