"""What files hold, by sha256, and the seal: the study, data and software that a run is planned with.

Dates decide nothing: a file whose size and dates stay is not read again, any other is read and compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from reconfmri.bids import sha256
from reconfmri.config import Study
from reconfmri.files import ChangedError
from reconfmri.provenance import hash_of_package, software_versions

LEDGER = ".reconfmri/sha256.jsonl"
SEAL = ".reconfmri/seal.json"
NOT_READ = "n/a"
# A file that was written while it was read keeps its dates within the clock's tick (ns).
TICK = 20_000_000


class Contents:
    """The sha256 of files, kept with their sizes and dates in a ledger of the study folder.

    While a run is `planned` new files are read, and from `save` on the ledger says what the run was planned
    with: a plan that comes to nothing, as another run is alive, leaves the ledger of that run as it is. A job
    reads only what the ledger does not hold under the same dates, and refuses a file with another content.
    """

    def __init__(self, folder: Path, *, planned: bool):
        self.path, self.planned = folder / LEDGER, planned
        self._known: dict[str, tuple[list[int], str]] | None = None
        self._unsaved: dict[str, tuple[list[int], str]] = {}
        self._saves = False

    def of(self, path: str | Path) -> str:
        """Return the sha256 of a file; `n/a` where there is none.

        Raises
        ------
        ChangedError
            In a job: the file changed after the run was planned.
        """
        place = Path(path).absolute()
        if not place.is_file():
            return NOT_READ
        now = _dates(place)
        before = self._ledger().get(str(place))
        if before and before[0] == now:
            return before[1]
        found = sha256(place)
        if not self.planned and before and found != before[1]:
            fix = "run the same command again (after `reconfmri index`, if it lies in the BIDS folder)"
            raise ChangedError(path, "changed after this run was planned", fix=fix, code="E-BIDS-A13")
        self._note(place, now, found)
        return found

    def save(self) -> None:
        """Write what was read into the ledger, and from now on whatever is read."""
        self._saves = True
        lines = [
            json.dumps([place, dates, digest], ensure_ascii=False) + "\n"
            for place, (dates, digest) in self._unsaved.items()
        ]
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as stream:
                stream.writelines(lines)
        self._unsaved = {}

    def _ledger(self) -> dict[str, tuple[list[int], str]]:
        if self._known is None:
            self._known = {}
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
            for line in lines:
                try:
                    place, dates, digest = json.loads(line)
                except ValueError:
                    continue  # cut by a full disk or a kill; the file is read again
                self._known[place] = (dates, digest)
        return self._known

    def _note(self, place: Path, dates: list[int], digest: str) -> None:
        self._ledger()[str(place)] = (dates, digest)
        fresh = abs(time.time_ns() - max(dates[1:])) < TICK
        if self.planned and dates == _dates(place) and not fresh:
            self._unsaved[str(place)] = (dates, digest)
            if self._saves:
                self.save()


def _dates(path: Path) -> list[int]:
    """Size, bytes, and when content and inode changed last, ns: the last cannot be set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@dataclass(frozen=True)
class Seal:
    """What a run was planned with, as digests; the allocation is no part of it, as every job reads it."""

    settings: str
    run_table: str
    index: str
    exclusions: str
    decisions: str
    code: str
    software: str

    @property
    def name(self) -> str:
        """One word for all of it. It begins with a letter: Snakemake reads digits as a number."""
        return f"seal-{_digest(json.dumps(asdict(self)))}"

    def write(self, folder: Path) -> None:
        """Leave the seal in the study folder, for whoever asks what differs."""
        path = folder / SEAL
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        beside.replace(path)

    def check(self, folder: Path, planned: str) -> None:
        """Refuse to work for a run that was planned with another seal.

        Raises
        ------
        ChangedError
            The seals differ; the message names what changed.
        """
        if self.name == planned:
            return
        path = folder / SEAL
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        changed = [FILES[part] for part, digest in asdict(self).items() if before.get(part) != digest]
        what = ", ".join(changed) or "the study"
        done = "changed after this run was planned, so nothing was made from it"
        fix = "start the same command again once the run has ended"
        raise ChangedError(what, done, fix=fix, code="E-CONF-D01")


FILES = {
    "settings": "config/config.yaml",
    "run_table": "config/runs.tsv",
    "index": "config/index.json",
    "exclusions": "config/exclusions.tsv",
    "decisions": "config/decisions.tsv",
    "code": "the code of reconfmri",
    "software": "the versions of its libraries",
}


def seal_of(folder: Path, study: Study) -> Seal:
    """Return the seal of a study folder as it is now."""
    tables = {part: folder / FILES[part] for part in ("run_table", "index", "exclusions", "decisions")}
    return Seal(
        settings=_digest(study.model_dump_json()),
        code=hash_of_package(),
        software=_digest(json.dumps(software_versions())),
        **{part: sha256(path) if path.is_file() else NOT_READ for part, path in tables.items()},
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
