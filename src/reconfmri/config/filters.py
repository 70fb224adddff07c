"""`filters`: which of several files of a kind is taken."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from reconfmri.config.section import Section, check_known
from reconfmri.problems import SettingError

# Entities that a file name may have, in the order of BIDS 1.11.
LABEL = re.compile(r"[a-zA-Z0-9+]+")
FILTERED = ("bold", "T1w", "events", "physio", "fmap")
FILE_ENTITIES = (
    "ses", "task", "acq", "ce", "trc", "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part",
    "proc", "recording", "chunk", "desc",
)  # fmt: skip


def _labels(value: object) -> object:
    entries = value if isinstance(value, list) else [value]
    labels = [entry for entry in entries if isinstance(entry, str) and LABEL.fullmatch(entry)]
    if value is not None and (not labels or labels != entries or len(set(labels)) != len(labels)):
        raise SettingError(
            f"filters: got {value!r}",
            'a label in quotes ("2"), a list of different ones, or null: without the entity',
        )
    return value


Filter = dict[str, Annotated[str | list[str] | None, BeforeValidator(_labels)]]


class Filters(Section):
    """Which files are taken where there are several of a kind: entity -> label, list of labels or `null`.

    What fMRIPrep's `--bids-filter-file` is, in the entities of file names. `null`: the name must not have the
    entity.
    """

    bold: Filter = Field(
        default_factory=dict, description='Functional images, e.g. `{dir: AP}`, `{echo: "2"}`'
    )
    T1w: Filter = Field(
        default_factory=dict,
        description="T1-weighted images: `{acq: mprage, rec: null}` takes `acq-mprage_T1w` and leaves "
        "`acq-mprage_rec-norm_T1w`",
    )
    events: Filter = Field(default_factory=dict, description="Tables of events")
    physio: Filter = Field(default_factory=dict, description="Recordings, e.g. `{recording: eda}`")
    fmap: Filter = Field(default_factory=dict, description="Images of field maps, e.g. `{acq: bold}`")

    @model_validator(mode="after")
    def _entities_exist(self) -> Filters:
        for kind in FILTERED:
            check_known(getattr(self, kind), FILE_ENTITIES, f"filters.{kind}")
        return self
