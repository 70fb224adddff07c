"""What to cite, by the parts that a study uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from reconfmri.config import Group, Study
from reconfmri.config.scales import library
from reconfmri.report.methods import Facts

REFERENCES = Path(__file__).parent / "references.tsv"


ARTICLE = re.compile(
    r"(?P<author>[^.]+)\. (?P<title>.+?)\. (?P<journal>[^.]+) (?P<year>\d{4});"
    r"(?P<volume>[^:;]+):(?P<pages>[^.]+)\.(?: doi:(?P<doi>\S+))?"
)


class Citation(NamedTuple):
    """What a reference is cited for, and the reference."""

    used_for: str
    reference: str


def citations(study: Study, facts: Facts | None = None) -> list[Citation]:
    """Return what a paper with these results should cite, by the parts that the study uses."""
    used = {"always", study.preprocessing.engine, *study.scales}
    used |= {scale.library for scale in study.scales.values() if scale.library}
    used |= {
        name
        for name in ("first_level", "connectivity", "skin_conductance", "physiology")
        if getattr(study, name) is not None
    }
    if study.skin_conductance:
        used |= {f"skin_{score}" for score in study.skin_conductance.scores}
    if study.group:
        used |= cited_of(study.group)
    if study.first_level and study.first_level.hrf.startswith("glover"):
        used.add("glover")
    if facts and True in facts.slice_timing and study.preprocessing.engine == "embedded":
        used.add("slice_timing")
    undone = {name for name in facts.distortion if name != "none"} if facts else set()
    if undone:
        used |= {"distortion", *undone} | ({"phasediff"} if "phases" in undone else set())
    return cited_for(used)


def cited_of(group: Group) -> set[str]:
    """Return the parts of the references that a group section uses."""
    return {"group"} | ({"pooled"} if group.pooled else set())


def cited_for(used: Iterable[str]) -> list[Citation]:
    """Return the references of some parts, the first column of `references.tsv`."""
    parts = set(used)
    lines = REFERENCES.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    scales = [
        Citation(str(item["label"]), str(item["citation"]))
        for name, item in library().items()
        if name in parts
    ]
    return [Citation(used_for, reference) for part, used_for, reference in rows if part in parts] + scales


def bibtex(cited: Iterable[Citation]) -> str:
    """Return references as BibTeX: articles where they read as one, else as they stand."""
    entries, keys = [], dict[str, int]()
    for item in cited:
        found = ARTICLE.fullmatch(item.reference)
        year = re.search(r"\b(?:19|20)\d{2}\b", item.reference)
        word = re.sub(r"[^A-Za-z]", "", item.reference.split()[0]).lower() or "reference"
        key = word + (year[0] if year else "")
        keys[key] = keys.get(key, 0) + 1
        key += "" if keys[key] == 1 else f"_{keys[key]}"
        fields = {"note": item.reference}
        if found:
            fields = {name: value for name, value in found.groupdict().items() if value}
            fields["author"] = _authors(fields["author"])
            fields["pages"] = fields["pages"].replace("-", "--")
        lines = "".join(f"  {name} = {{{_plain(value)}}},\n" for name, value in fields.items())
        entries.append(f"@{'article' if found else 'misc'}{{{key},\n{lines}}}\n")
    return "\n".join(entries)


def _authors(names: str) -> str:
    """`Mölder F, et al` as BibTeX has it: surname, initials."""
    people = [part.strip() for part in re.split(r",| & ", names) if part.strip()]
    return " and ".join(
        "others" if who.startswith("et al") else re.sub(r" ([A-Z]{1,4})$", r", \1", who) for who in people
    )


def _plain(value: str) -> str:
    return re.sub(r"([&%#_$])", r"\\\1", value.replace("{", "(").replace("}", ")"))
