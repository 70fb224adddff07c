"""The BIDS layout: where a file of given entities lies, and what a dataset holds."""

from __future__ import annotations

ENTITIES = (
    ("sub", "sub"),
    ("ses", "ses"),
    ("task", "task"),
    ("run", "run"),
    ("from_", "from"),
    ("to", "to"),
    ("mode", "mode"),
    ("space", "space"),
    ("res", "res"),
    ("seg", "seg"),
    ("stat", "stat"),
    ("contrast", "contrast"),
    ("desc", "desc"),
)


def bids_path(root: str, *, datatype: str, suffix: str, ext: str, **entities: str | None) -> str:
    """Return `root/sub-*/[ses-*/]datatype/sub-*_..._suffix.ext`; entities that are None are left out.

    `from_` stands for the entity `from`. Values may be Snakemake wildcards such as `{sub}`.

    Raises
    ------
    ValueError
        An entity is unknown, or `sub` is missing.
    """
    known = [keyword for keyword, _ in ENTITIES]
    unknown = [name for name in entities if name not in known]
    if unknown:
        raise ValueError(f"Unknown BIDS entities {unknown}; known are {known}")
    given = {key: value for keyword, key in ENTITIES if (value := entities.get(keyword)) is not None}
    if "sub" not in given:
        raise ValueError(f"bids_path needs sub; got {sorted(given)}")
    folders = [f"{key}-{given[key]}" for key in ("sub", "ses") if key in given]
    name = "_".join([*(f"{key}-{value}" for key, value in given.items()), f"{suffix}{ext}"])
    return "/".join([root, *folders, datatype, name])
