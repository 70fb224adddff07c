"""`rois`: the regions."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from reconfmri.config.section import (
    EachOnce,
    Name,
    Section,
    Share,
    Text,
    check_apart,
    check_free,
    check_known,
)
from reconfmri.problems import SettingError

# `coverage.lowest` and `tsnr.median` are numbers of a whole run, `coverage.<region>` those of a region.
RESERVED = ("lowest", "median")
UNUSED_THRESHOLD = 0.5


SOURCES = ("https://", "http://", "file://", "templateflow:", "nilearn:")
Template = Literal["MNI152NLin2009cAsym", "MNI152NLin6Asym"]


class Sphere(Section):
    """A sphere around a coordinate."""

    centre: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        description="x, y, z in mm, RAS: negative x is left"
    )
    radius: float = Field(gt=0, le=50, description="Radius, mm")


class Atlas(Section):
    """An atlas that the study brings along, beside Harvard-Oxford."""

    image: Text = Field(
        description="Image of label numbers (three dimensions) or of probabilities, a volume per label (four "
        "dimensions; shares or percent), from the study folder"
    )
    labels: Text = Field(
        description="Table of its labels, as BIDS has it: columns `index` (number, or volume from 0), `name`"
    )
    space: Template = Field(description="Template that it lies in; never guessed")
    image_from: Text | None = Field(
        None,
        description="Where `reconfmri fetch` gets the image: an address (https, http, file), "
        "`templateflow:PATH` of its archive, or `nilearn:NAME?key=value`, which gives image and table",
    )
    labels_from: Text | None = Field(None, description="The same of the table")

    @model_validator(mode="after")
    def _sources_are_whole(self) -> Atlas:
        for source in (self.image_from, self.labels_from):
            if source and not source.startswith(SOURCES):
                raise SettingError(
                    f"got the source {source!r}, expected one that begins with {', '.join(SOURCES)}",
                    "correct it",
                )
        by_nilearn = (self.image_from or "").startswith("nilearn:")
        if (self.image_from is not None and not by_nilearn) != (self.labels_from is not None):
            raise SettingError(
                "image_from and labels_from belong together, and `nilearn:` gives both",
                "give both, or `image_from: nilearn:...` alone",
            )
        return self


class Region(Section):
    """A region of interest from one source: atlas labels, a sphere, a mask file or a thresholded map."""

    labels: Annotated[list[str], EachOnce] = Field(
        default_factory=list,
        description="Labels of the atlas, as in its table; their probabilities are summed",
    )
    atlas: Name | None = Field(
        None, description="Atlas of `rois.atlases` that the labels are of; none = Harvard-Oxford"
    )
    sphere: Sphere | None = Field(None, description="In place of labels: a sphere, in `space`")
    mask: Text | None = Field(
        None, description="In place of labels: an image whose region is above 0, in `space`"
    )
    map: Text | None = Field(
        None,
        description="In place of labels: a statistical map whose region is at least `threshold`, in `space`",
    )
    segmentation: Annotated[list[Text | int], EachOnce] = Field(
        default_factory=list,
        description="In place of labels: labels of the person's own segmentation, by FreeSurfer's names "
        "(`Left-Amygdala`; `Amygdala` = both sides) or numbers (18); needs fMRIPrep's outputs",
    )
    space: Template | None = Field(
        None,
        description="Template of sphere, mask or map; never guessed. MNI152NLin6Asym is carried over by the "
        "registration of the two template brains",
    )
    side: Literal["both", "left", "right"] = Field(
        "both", description="Which half of a sphere, mask or map; the atlas has labels of its own per side"
    )
    threshold: float = Field(
        UNUSED_THRESHOLD,
        description="Labels: summed probability, above 0 and below 1, from which a voxel belongs to the "
        "region; map: the same in the unit of the map",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Region:
        sources = ("labels", "sphere", "mask", "map", "segmentation")
        given = [name for name in sources if getattr(self, name)]
        if len(given) != 1:
            raise SettingError(
                f"got {given}, expected one of labels, sphere, mask and map, or segmentation",
                "keep one source",
            )
        if self.segmentation:
            if self.atlas or self.space or self.side != "both" or self.threshold != UNUSED_THRESHOLD:
                raise SettingError(
                    "atlas, space, side and threshold are of regions on a template",
                    "delete them beside segmentation",
                )
            return self
        if self.labels:
            if not 0 < self.threshold < 1:
                raise SettingError(
                    f"threshold is {self.threshold:g}, expected a probability in (0, 1)",
                    "correct it",
                )
            if self.space or self.side != "both":
                raise SettingError(
                    "space and side are of spheres, masks and maps",
                    "delete them beside labels",
                )
        elif self.atlas:
            raise SettingError("atlas is of labels", "delete it, or give labels")
        elif self.space is None:
            raise SettingError(
                f"a {given[0]} needs the template that it lies in",
                "add `space`",
            )
        return self

    @property
    def source(self) -> str:
        """The source in words."""
        if self.labels:
            of = f" of {self.atlas}" if self.atlas else ""
            return f"{' + '.join(self.labels)}{of}, probability ≥ {self.threshold:g}"
        if self.segmentation:
            return f"{' + '.join(map(str, self.segmentation))} of the person's own segmentation"
        half = "" if self.side == "both" else f", {self.side} half"
        if self.sphere:
            at = ", ".join(f"{value:g}" for value in self.sphere.centre)
            return f"sphere of {self.sphere.radius:g} mm around ({at}) in {self.space}{half}"
        if self.mask:
            return f"mask {PurePath(self.mask).name} in {self.space}{half}"
        return f"map {PurePath(self.map or '').name} ≥ {self.threshold:g} in {self.space}{half}"

    @property
    def file(self) -> str | None:
        """The image that the region is made from, beside the atlas."""
        return self.mask or self.map


class Rois(Section):
    """Regions and the pairs of sides that are reported together."""

    atlases: dict[Name, Atlas] = Field(
        default_factory=dict, description="Name -> an atlas beside Harvard-Oxford, for `atlas` of a region"
    )
    regions: dict[Name, Region] = Field(min_length=1, description="Name -> source and threshold")
    combined: dict[Name, Annotated[list[Name], Field(min_length=2), EachOnce]] = Field(
        default_factory=dict, description="Name without a side -> its parts, weighted by volume"
    )
    summary: Literal["mean", "weighted_mean", "median", "eigenvariate"] = Field(
        "mean",
        description="Signal of a region over its voxels; `weighted_mean`: by the atlas's probabilities; "
        "`eigenvariate`: the first one, scaled as SPM's, around the mean",
    )
    segmentation: Literal["aseg", "aparcaseg"] = Field(
        "aseg", description="Which of fMRIPrep's segmentations `segmentation` of a region names labels of"
    )
    min_coverage: Share = Field(
        0.8, description="A region covered less by the run's mask is missing in that run"
    )
    min_tsnr: float | None = Field(
        None,
        gt=0,
        description="A region with a lower median temporal SNR is missing in that run; none = reported only",
    )

    @model_validator(mode="after")
    def _parts_exist(self) -> Rois:
        for name, region in self.regions.items():
            check_known([region.atlas] if region.atlas else [], self.atlases, f"rois.regions.{name}.atlas")
        for name, parts in self.combined.items():
            check_known(parts, self.regions, f"rois.combined.{name}")
            if name in self.regions:
                raise SettingError(f"rois.combined.{name}: a region has that name already", "rename one")
        for part in ("regions", "combined"):
            check_free(getattr(self, part), f"rois.{part}", RESERVED)
        check_apart(self.names, "rois")
        if len(self.own) == len(self.regions):
            raise SettingError(
                "rois.regions: all are of people's own segmentations, and pictures are cut through a region "
                "of the template",
                "add one by labels, as a control region",
            )
        return self

    @property
    def own(self) -> list[str]:
        """Regions of every person's own segmentation."""
        return [name for name, region in self.regions.items() if region.segmentation]

    @property
    def names(self) -> list[str]:
        """All names an outcome may use: single regions, then combined ones."""
        return [*self.regions, *self.combined]

    @property
    def files(self) -> list[str]:
        """Every file from outside that the regions are made from, from the study folder."""
        own = [region.file for region in self.regions.values() if region.file]
        used = [self.atlases[region.atlas] for region in self.regions.values() if region.atlas]
        return list(dict.fromkeys([*own, *(file for atlas in used for file in (atlas.image, atlas.labels))]))

    def space_of(self, region: Region) -> str:
        """The template that a region's source lies in."""
        if region.labels:
            return self.atlases[region.atlas].space if region.atlas else "MNI152NLin6Asym"
        return str(region.space)

    def parts_of(self, name: str) -> set[str]:
        """The single regions that a name stands for."""
        return set(self.combined.get(name, [name]))
