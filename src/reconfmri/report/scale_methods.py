"""Methods of the clinical scales, in words."""

from __future__ import annotations

from reconfmri.config import Scale, Study
from reconfmri.report.words import count_of, list_of


def scale_methods(study: Study) -> str:
    """Return how the clinical scales are scored, by every setting that changes a number."""
    unchecked = [
        scale.label or name
        for name, scale in study.scales.items()
        if scale.library and scale.checked is False
    ]
    text = "Scores of the phenotype tables. " + " ".join(
        _scale(name, scale) for name, scale in study.scales.items()
    )
    text += (
        " A score outside its range, of a visit that is on several lines, or of which an item is "
        "missing, is missing, with the reason in the table of exclusions."
    )
    if unchecked:
        text += (
            f" Of {list_of(unchecked)} the library's items and ranges could not be checked with the original "
            "source: docs/scales.md says which."
        )
    return text


def _scale(name: str, scale: Scale) -> str:
    """How one scale is scored."""
    ends = f"{scale.unit}, {scale.range[0]:g} to {scale.range[1]:g}"
    text = f"{name} ({ends}) is the column {scale.total}."
    if scale.columns:
        text = (
            f"{name} ({ends}) is the {scale.score} of {count_of(len(scale.columns), 'item')} of "
            f"{scale.item_range[0]:g} to {scale.item_range[1]:g}, compared with the column {scale.total} "
            f"where it is there.{_items_of(scale)}"
        )
    if scale.table:
        text += f" It is read from phenotype/{scale.table}.tsv."
    if scale.windows:
        windows = [f"session {key}: {low:g} to {high:g}" for key, (low, high) in scale.windows.items()]
        text += f" Days ({scale.day}) outside of a window are missing: {list_of(windows)}."
    if scale.repeats:
        text += f" Of several ratings of a visit ({scale.repeats}) the {scale.take} counts."
        if scale.occasions:
            text += f" The totals at {list_of(scale.occasions)} are outcomes of their own."
    return text


def _items_of(scale: Scale) -> str:
    """What is said of items, subscales and diagnosis."""
    text = ""
    if scale.numbers:
        text += f" Items are numbered {list_of(list(map(str, scale.numbers)))}."
    if scale.item_ranges:
        others = [f"{number}: {low:g} to {high:g}" for number, (low, high) in scale.item_ranges.items()]
        text += f" Other ends have the items {list_of(others)}."
    if scale.items_from is not None:
        text += f" In the table items count from {scale.items_from:g}."
    if scale.reversed:
        text += f" Items {list_of(list(map(str, scale.reversed)))} are reversed."
    if scale.subscales:
        parts = [
            f"{part.replace('_', ' ')} ({subscale.score} of {list_of(list(map(str, subscale.items)))})"
            for part, subscale in scale.subscales.items()
        ]
        text += f" Subscales: {list_of(parts)}."
    if scale.max_missing:
        text += (
            f" Up to {100 * scale.max_missing:g} % missing items of a score are the person's mean of the "
            "others in it; a remark in the table of exclusions names them."
        )
    if scale.diagnosis and scale.diagnoses:
        rule = scale.diagnosis
        needed = [f"{count} of {part.replace('_', ' ')}" for part, count in rule.symptoms.items()]
        also = [f"{key} ({column})" for key, column in scale.criteria.items()]
        text += (
            f" The diagnosis ({scale.period.replace('_', ' ')}) needs items rated {rule.rated:g} or more: "
        )
        text += f"{list_of(needed)}{f', and {list_of(also)}' if also else ''}."
    elif scale.diagnosis:
        text += " No diagnosis is made of it: "
        text += (
            "the past-week form gives none."
            if scale.period == "past_week"
            else "its criteria have no column."
        )
    return text
