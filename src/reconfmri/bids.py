"""The BIDS layout: where a file of given entities lies, what its name and sidecars say, and the run table."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pathspec import GitIgnoreSpec

from reconfmri.exclusions import UNIT, DataFault
from reconfmri.files import InputError, UnreadableError, explained, read_text, refuse_unreadable
from reconfmri.tables import MISSING, read_table, write_table

LABEL = re.compile(r"[a-zA-Z0-9+]+")  # `+` since BIDS 1.11
WILDCARD = re.compile(r"\{[a-z_]+\}")  # of Snakemake
PARTICIPANT = re.compile(r"sub-[a-zA-Z0-9+]+")
INDICES = ("run", "echo", "inv", "split")  # entities whose labels are numbers: `01` is `1`
RUN_TABLE = "config/runs.tsv"  # from the study folder
SMALL = 1_000_000  # bytes; files up to this size are compared by content even in the quick check
FILE_COLUMNS = ("bold", "t1w", "events", "physio")
RUN_COLUMNS = {
    "participant_id": "Participant, as in participants.tsv",
    "session_id": "BIDS session label, without `ses-`; n/a in a dataset without sessions",
    "task": "BIDS task label",
    "run": "BIDS run label; n/a when the name has none",
    "bold": "Functional image, path from the BIDS folder",
    "t1w": "T1-weighted image of the session, else the earliest of the person",
    "events": "Events of the run, own or inherited; n/a for a task without conditions",
    "physio": "Physiological recordings of the run, with blanks between; n/a when there is none",
    "tr": "RepetitionTime of the run's sidecars, s",
    "n_volumes": "Volumes in the image header",
    "bold_sha256": "sha256 of the functional image at index time",
    "t1w_sha256": "sha256 of the T1-weighted image at index time",
    "events_sha256": "sha256 of the events table at index time",
    "physio_sha256": "sha256 of each recording at index time",
}
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
    ("contrast", "contrast"),
    ("stat", "stat"),
    ("desc", "desc"),
)


def bids_path(root: str, *, datatype: str, suffix: str, ext: str, **entities: str | None) -> str:
    """Return `root/sub-*/[ses-*/]datatype/sub-*_..._suffix.ext`; entities that are None are left out.

    `from_` stands for the entity `from`. Values may be Snakemake wildcards such as `{sub}`.

    Raises
    ------
    ValueError
        An entity is unknown, `sub` is missing, or a value is neither a BIDS label nor a wildcard.
    """
    known = [keyword for keyword, _ in ENTITIES]
    unknown = [name for name in entities if name not in known]
    if unknown:
        raise ValueError(f"Unknown BIDS entities {unknown}; known are {known}")
    given = {key: value for keyword, key in ENTITIES if (value := entities.get(keyword)) is not None}
    if "sub" not in given:
        raise ValueError(f"bids_path needs sub; got {sorted(given)}")
    for key, value in {**given, "datatype": datatype, "suffix": suffix}.items():
        if not (LABEL.fullmatch(value) or WILDCARD.fullmatch(value)):
            raise ValueError(f"{key} is {value!r}, which is no BIDS label: letters, digits and + alone")
    folders = [f"{key}-{given[key]}" for key in ("sub", "ses") if key in given]
    name = "_".join([*(f"{key}-{value}" for key, value in given.items()), f"{suffix}{ext}"])
    return "/".join([root, *folders, datatype, name])


@dataclass(frozen=True)
class BidsFile:
    """One file of a dataset: its path from the root, and what its name says."""

    path: str
    entities: dict[str, str] = field(hash=False)
    suffix: str
    ext: str

    @property
    def folder(self) -> str:
        """The folder it lies in, from the root; `.` at the top."""
        return str(PurePosixPath(self.path).parent)

    def applies_to(self, other: BidsFile, suffix: str) -> bool:
        """Whether this sidecar is inherited by `other` (BIDS inheritance principle)."""
        above = self.folder == "." or f"{other.folder}/".startswith(f"{self.folder}/")
        return self.suffix == suffix and above and self.identity.items() <= other.identity.items()

    def meets(self, wanted: Mapping[str, str | list[str] | None]) -> bool:
        """Whether the name has the labels `wanted`: one, one of a list, or (None) not that entity at all."""
        for key, allowed in wanted.items():
            labels = [None] if allowed is None else [allowed] if isinstance(allowed, str) else allowed
            same = [number_of(label) if label and key in INDICES else label for label in labels]
            if self.identity.get(key) not in same:
                return False
        return True

    @property
    def identity(self) -> dict[str, str]:
        """The entities with numbers written in one way: `run-01` is `run-1`."""
        return {key: number_of(label) if key in INDICES else label for key, label in self.entities.items()}


def number_of(label: str) -> str:
    """Return the label of an index without leading zeros; another label as it is."""
    return str(int(label)) if label.isascii() and label.isdigit() else label


def parse_name(path: str) -> BidsFile:
    """Return the entities, suffix and extension of a BIDS file name.

    Raises
    ------
    ValueError
        The name is not `key-label_..._suffix.ext` with labels of letters, digits and `+`.
    """
    stem, dot, ext = PurePosixPath(path).name.partition(".")
    *pairs, suffix = stem.split("_")
    entities = {}
    for pair in pairs:
        key, dash, label = pair.partition("-")
        if not (dash and key.isalpha() and LABEL.fullmatch(label)) or key in entities:
            raise ValueError(f"{pair!r} is not key-label with a label of letters, digits and +")
        entities[key] = label
    if not (LABEL.fullmatch(suffix) and suffix.isalnum()):
        raise ValueError(f"{suffix!r} is not a suffix of letters and digits")
    return BidsFile(path, entities, suffix, dot + ext)


def parsed(path: str) -> BidsFile | None:
    """Return a file by its name; None when the name is not of BIDS."""
    try:
        return parse_name(path)
    except ValueError:
        return None


def inherited(file: BidsFile, among: Iterable[BidsFile], *, suffix: str, ext: str) -> list[BidsFile]:
    """The sidecars of `file`, from the most general to the most specific."""
    found = [other for other in among if other.ext == ext and other.applies_to(file, suffix)]
    return sorted(
        found, key=lambda other: (other.folder.count("/") + (other.folder != "."), len(other.entities))
    )


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; a byte order mark is tolerated.

    Raises
    ------
    ValueError
        It cannot be read, is not UTF-8, not JSON (with line and column), not an object, or has a key twice.
    FileNotFoundError
        There is no such file.
    """
    try:
        content = json.loads(read_text(path), object_pairs_hook=_each_once)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, got {type(content).__name__}")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of JSON, in which no key may be there twice: the last one would win without a word."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return content


def read_sidecar(root: Path, path: str) -> dict[str, Any]:
    """Return the metadata of the file at `path` (from the root), inherited from the top down.

    Raises
    ------
    DataFault
        A sidecar of the chain is malformed (E-BIDS-A11) or cannot be read (E-BIDS-A15).
    """
    file = parse_name(path)
    folders = [PurePosixPath(path).parent, *PurePosixPath(path).parent.parents]
    near = [folder / found.name for folder in folders for found in (root / folder).glob("*.json")]
    ignored = ignored_by(root)
    named = [str(name) for name in near if not ignored(str(name))]
    return merged_sidecars(root, file, filter(None, map(parsed, named)))


def merged_sidecars(root: Path, file: BidsFile, among: Iterable[BidsFile]) -> dict[str, Any]:
    """Return the metadata of `file` from those sidecars `among` files that it inherits.

    Raises
    ------
    DataFault
        As `read_sidecar`.
    """
    metadata: dict[str, Any] = {}
    for sidecar in inherited(file, among, suffix=file.suffix, ext=".json"):
        try:
            metadata |= read_json(root / sidecar.path)
        except (ValueError, OSError) as error:
            raise unusable(error, root, sidecar.path, "correct the file, e.g. with a JSON checker") from None
    return metadata


def unusable(error: Exception, root: Path, path: str, fix: str) -> DataFault:
    """Return an error of reading the file at `path` (from the root) as a fault of the scan it belongs to."""
    what, fix = explained(error, root / path, path, fix)
    code = "E-BIDS-A15" if isinstance(error, UnreadableError) and not error.is_text else "E-BIDS-A11"
    return DataFault(code, what, fix=fix, file=path)


def require_readable(root: Path, path: str) -> None:
    """Check that the file at `path` (from the root) can be opened.

    Raises
    ------
    DataFault
        It cannot (E-BIDS-A15): a link to nowhere, a folder, no permission.
    """
    try:
        refuse_unreadable(root / path)
    except (UnreadableError, FileNotFoundError) as error:
        raise unusable(error, root, path, "copy or fetch the file (`datalad get`)") from None


def write_run_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write the run table and the JSON that describes its columns."""
    write_table(path, table[list(RUN_COLUMNS)], RUN_COLUMNS)


def read_run_table(path: str | Path) -> pd.DataFrame:
    """Return the run table: text columns with `n/a` where absent, `tr` in s, `n_volumes` as integers.

    Raises
    ------
    ValueError
        The table is malformed, names a scan twice, mixes scans with and without a session, or holds no scan.
    """
    table = read_table(path, numeric=["tr", "n_volumes"], required=list(RUN_COLUMNS))
    if table.empty:
        raise ValueError(f"{path}: no scan; run `reconfmri index` and read what it says")
    text = [name for name in table.columns if name not in ("tr", "n_volumes")]
    table[text] = table[text].where(table[text].notna(), MISSING)
    for line, row in enumerate(table.itertuples(), start=2):
        _check_row(row, f"{path}: line {line}")
    keys = table[[*UNIT]].replace({"run": {MISSING: "1"}})
    keys["run"] = keys["run"].map(number_of)
    twice = keys.duplicated(keep=False).to_numpy()
    if twice.any():
        lines = [int(number) + 2 for number in twice.nonzero()[0]]
        raise ValueError(f"{path}: lines {lines} name the same scan twice; keep one")
    if (table["session_id"] == MISSING).nunique() > 1:
        raise ValueError(f"{path}: some scans have a session, others none; all or none must")
    table["n_volumes"] = table["n_volumes"].astype("int64")
    return table


def _check_row(row: Any, where: str) -> None:
    for name in ("session_id", "task", "run"):
        label = getattr(row, name)
        if label != MISSING and not LABEL.fullmatch(label):
            raise ValueError(f"{where}: {name} {label!r} is not a label of letters, digits and +")
    if not PARTICIPANT.fullmatch(row.participant_id):
        raise ValueError(f"{where}: participant_id {row.participant_id!r} is not sub-<letters, digits, +>")
    if not (row.tr > 0 and row.n_volumes >= 1):
        raise ValueError(f"{where}: tr and n_volumes must be positive, got {row.tr} and {row.n_volumes}")
    for name in FILE_COLUMNS:
        for path in map(PurePosixPath, paths_in(getattr(row, name))):
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(
                    f"{where}: {name} {str(path)!r} leaves the BIDS folder; paths are relative to it"
                )


def paths_in(cell: str) -> list[str]:
    """Return the paths in a cell of the run table: a run may have several recordings, with blanks between."""
    return [] if cell == MISSING else cell.split(" ")


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `config/index.json` tells of the data; None for a run table made by hand."""
    path = folder / "config/index.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def verify_unchanged(
    run_table: pd.DataFrame,
    root: Path,
    record: Mapping[str, Any] | None = None,
    *,
    full: bool = False,
    digest: Callable[[Path], str] | None = None,
) -> None:
    """Check the files of the run table and, given what `config/index.json` holds, the listing.

    Quick: existence and size, and the content of small files. `full`: the content of every file, as with a
    `digest` that need not read a file again (`contents.Contents.of`).

    Raises
    ------
    ValueError
        A file is gone, new or changed since the index.
    """
    full, digest = full or digest is not None, digest or sha256
    changed = [
        f"{path}: {what}"
        for path, expected in _expected_files(run_table).items()
        if (what := _difference(root / path, expected, full=full, digest=digest))
    ]
    if record is not None:
        known, now = record["files"], list_files(root)
        changed += [f"{path}: new since the index" for path in now if path not in known]
        changed += [f"{path}: gone since the index" for path in known if path not in now]
        changed += [
            f"{path}: changed since the index"
            for path, size in now.items()
            if path in known and known[path]["size"] != size
        ]
        changed += [
            f"{path}: changed since the index"
            for path, entry in known.items()
            if entry.get("sha256")
            and now.get(path) == entry["size"]
            and digest(root / path) != entry["sha256"]
        ]
    if changed:
        listed = "; ".join(sorted(set(changed))[:5]) + (
            f"; and {len(changed) - 5} more" if len(changed) > 5 else ""
        )
        what = f"the data changed after the index: {listed}"
        raise InputError(RUN_TABLE, what, fix="index again (`reconfmri index`)", code="E-BIDS-A13")


def _expected_files(run_table: pd.DataFrame) -> dict[str, str]:
    """Path -> sha256 of every file the run table names."""
    expected: dict[str, str] = {}
    for name in FILE_COLUMNS:
        pairs = zip(run_table[name], run_table[f"{name}_sha256"], strict=True)
        for paths, digests in pairs:
            expected |= dict(zip(paths_in(paths), digests.split(" "), strict=paths != MISSING))
    return expected


def _difference(path: Path, expected: str, *, full: bool, digest: Callable[[Path], str]) -> str:
    """What is wrong with a file of the run table, or nothing."""
    if not path.is_file():
        return "gone since the index"
    if (full or path.stat().st_size <= SMALL) and digest(path) != expected:
        return "changed since the index"
    return ""


def sha256(path: Path) -> str:
    """Return the sha256 of a file, read as a stream, once as long as its size and dates stay."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _sha256(path: Path, _size: int, _modified: int, _changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def list_files(root: Path) -> dict[str, int]:
    """Path -> size in bytes of what an index depends on: tables and sidecars at the top, and the images.

    What `.bidsignore` takes out is not there. Size -1: a link to nowhere, or a folder of that name.

    Raises
    ------
    ValueError
        `.bidsignore` cannot be read.
    """
    found = [entry for entry in _scan(root) if entry.suffix in (".json", ".tsv")]
    for subject in subjects(root):
        found += _scan(root / subject)
        for session in [root / subject, *_subfolders(root / subject, "ses-")]:
            found += _scan(session) if session != root / subject else []
            for datatype in ("anat", "fmap", "func"):
                found += _scan(session / datatype, folders=True)
    ignored = ignored_by(root)
    sizes = {path.relative_to(root).as_posix(): _size(path) for path in found}
    return {path: size for path, size in sizes.items() if not ignored(path)}


def subjects(root: Path) -> list[str]:
    """Names of the subject folders, by name, without those that `.bidsignore` takes out."""
    ignored = ignored_by(root)
    names = [folder.name for folder in _subfolders(root, "sub-")]
    # `sub-x/` names the folder, `sub-x/**` all that it may hold.
    return [name for name in names if not (ignored(f"{name}/") or ignored(f"{name}/any"))]


def ignored_by(root: Path) -> Callable[[str], bool]:
    """Return whether `.bidsignore`, in the syntax of .gitignore, takes a path (from the root) out.

    Raises
    ------
    ValueError
        `.bidsignore` cannot be read.
    """
    path = root / ".bidsignore"
    if not os.path.lexists(path):
        return lambda _path: False
    date = path.stat().st_mtime_ns if path.exists() else 0
    return _patterns(path, date).match_file


@cache
def _patterns(path: Path, _date: int) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(read_text(path).split("\n"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _scan(folder: Path, *, folders: bool = False) -> list[Path]:
    """Files of a folder, by name, hidden ones left out; with `folders` also folders named like a file."""
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        return []  # what cannot be listed is named by `read_dataset`
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    kept = [entry.name for entry in entries if not _is_folder(entry) or (folders and "." in entry.name)]
    return [folder / name for name in sorted(kept)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is one; a link that leads back to itself is none, and is named when it is read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _subfolders(folder: Path, prefix: str) -> list[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        return []
    names = sorted(
        entry.name for entry in os.scandir(folder) if _is_folder(entry) and entry.name.startswith(prefix)
    )
    return [folder / name for name in names]
