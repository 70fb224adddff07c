"""Where a number came from: hashes of code, versions of software, logs, and the packaged workflow."""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from reconfmri import __version__
from reconfmri.tracebacks import PACKAGE, traceback_without_data

# Names of community usage, as fMRIPrep's own list has them, and tables and pictures of ours.
NOT_IN_BIDS = (
    *("*_xfm.*", "*_boldref.nii.gz", "*_timeseries.*", "*_statmap.nii.gz", "*_fieldmap.nii.gz"),
    *(
        "*_design.tsv",
        "*_coverage.*",
        "*_connectivity.*",
        "*_estimates.*",
        "*_measures.*",
        "*_scripts.*",
        "*_exclusions.tsv",
        "*.png",
        "atlas",
    ),
)
# Import names that are not the names of what is installed.
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml", "sklearn": "scikit-learn"}
CHANGES_NO_NUMBER = ("resources", "threads", "retries", "log", "conda")


def code_of(rule: str, *, also: Sequence[str] = ()) -> str:
    """Return a hash of all that a rule runs, wherever it lies.

    Its script, the text of the rule without remarks, the modules of reconfmri that the script leads to with
    the data files beside them, and the versions of the libraries that these import. `also`: modules that
    the script looks up by name.

    Raises
    ------
    ValueError
        There is no such rule.
    """
    folder = workflow_folder() / "workflow"
    script = folder / "scripts" / f"{rule}.py"
    if not script.is_file():
        raise ValueError(f"there is no rule {rule}: no {script.name} in workflow/scripts")
    digest = hashlib.sha256(script.read_bytes() + _text_of_rule(folder / "rules", rule).encode())
    modules = frozenset[Path]().union(*(_imports_of(name) for name in (*_modules_named(script), *also)))
    beside = [item for path in modules if path.name == "__init__.py" for item in _data_beside(path.parent)]
    for path in sorted(modules.union(beside)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + _bytes_of(path))
    libraries = frozenset[str]().union(_libraries_of(script), *map(_libraries_of, modules))
    digest.update(json.dumps([(name, _version_of(name)) for name in sorted(libraries)]).encode())
    return digest.hexdigest()[:16]


def hash_of_package() -> str:
    """Return a hash of every file of the package and of the workflow."""
    workflow = workflow_folder()
    digest = hashlib.sha256()
    for root, inside in ((PACKAGE, PACKAGE), (workflow, workflow / "workflow")):
        for path in sorted(item for item in inside.rglob("*") if item.is_file() and _is_source(item)):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def software_versions() -> dict[str, str]:
    """Return name -> version of the package, of Python and of what the package directly stands on."""
    versions = {"reconfmri": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for requirement in metadata.requires("reconfmri") or []:
        if "extra ==" in requirement:
            continue
        name = requirement.split(">")[0].split("<")[0].split("=")[0].strip()
        versions[name] = metadata.version(name)
    return versions


def describe_dataset(name: str, *, generated_from: str = "") -> str:
    """Return the text of a `dataset_description.json` for a derivative dataset (BIDS 1.10)."""
    description = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "reconfmri", "Version": __version__}],
    }
    if generated_from:
        description["SourceDatasets"] = [{"URL": generated_from}]
    return json.dumps(description, indent=2, ensure_ascii=False) + "\n"


def readme_of_dataset(name: str) -> str:
    """Return the text of a derivative dataset's README.md."""
    return f"""# {name}

Made by reconfmri {__version__} from a BIDS dataset. Names follow BIDS derivatives and fMRIPrep:

- `sub-*/anat/`: T1w, brain mask, tissue (1 grey, 2 white, 3 fluid); `from-T1w_to-*_mode-image_xfm.nii.gz`
  is a field of displacements that ITK, ANTs and nitransforms apply.
- `sub-*/[ses-*/]func/`: `space-*_desc-preproc_bold`, `desc-brain_mask`, `dseg`;
  `desc-confounds_timeseries` with fMRIPrep's columns (nilearn's `load_confounds` reads them);
  `from-orig_to-boldref` (one affine per volume) and `from-boldref_to-T1w` as ITK's text files;
  designs, maps, signals of regions (`seg-study`), measures.
- `*_exclusions.tsv`: what was left out at a step, and why. A scan that is out has empty files;
  `.bidsignore` names them, and the files that BIDS has no name for.
"""


def ignored_by_validators(excluded: Iterable[str]) -> str:
    """Return the text of `.bidsignore`: files without a name in BIDS, and patterns of `excluded` scans."""
    return "\n".join([*NOT_IN_BIDS, *dict.fromkeys(excluded)]) + "\n"


def workflow_folder() -> Path:
    """Return the folder that holds the Snakefile: inside the installed package, or the clone's root.

    Raises
    ------
    FileNotFoundError
        Neither is there: the installation is broken.
    """
    for folder in (PACKAGE / "_workflow", PACKAGE.parent.parent):
        if (folder / "Snakefile").is_file():
            return folder
    raise FileNotFoundError(
        f"no Snakefile in {PACKAGE / '_workflow'} nor in {PACKAGE.parent.parent}; reinstall"
    )


def export_package_source() -> None:
    """Have `RECONFMRI_SOURCE` name what pip can install of this package: as given, else the clone this is.

    Raises
    ------
    FileNotFoundError
        There is none: an installed package is no longer one.
    """
    given = os.environ.get("RECONFMRI_SOURCE", "")
    source = Path(given) if given else PACKAGE.parent.parent
    if not (source.is_file() or (source / "pyproject.toml").is_file()):
        raise FileNotFoundError(
            f"an environment of its own needs reconfmri as a file, and {source} is none. "
            "Fix: export RECONFMRI_SOURCE=<the wheel it was installed from>"
        )
    os.environ["RECONFMRI_SOURCE"] = str(source.absolute())


class _File(logging.FileHandler):
    """A log that a full disk cuts: what cannot be written is not shown on the screen instead."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging names it
        """Go on without the line."""


@contextmanager
def log_to(path: str | Path) -> Iterator[logging.Logger]:
    """Send the package's log records and warnings to `path` while the block runs; of an exception no data."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger("reconfmri")
    handler = _File(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    warned = logging.getLogger("py.warnings")
    logging.captureWarnings(True)
    for target in (logger, warned):
        target.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield logger
    except Exception as error:
        logger.error("failed\n%s", traceback_without_data(error))
        raise
    finally:
        for target in (logger, warned):
            target.removeHandler(handler)
        with suppress(OSError):  # on a full disk
            handler.close()
        logging.captureWarnings(False)


def _is_source(path: Path) -> bool:
    return "__pycache__" not in path.parts and "_workflow" not in path.parts[:-1]


def _text_of_rule(folder: Path, rule: str) -> str:
    """The lines of a rule, without remarks; nothing where the rules' files lie elsewhere."""
    for path in sorted(folder.glob("*.smk")):
        _, found, rest = f"\n{_bytes_of(path).decode()}".partition(f"\nrule {rule}:\n")
        if found:
            lines = rest.split("\n")
            end = next((n for n, line in enumerate(lines) if line and not line[0].isspace()), len(lines))
            return "\n".join(_that_tell(lines[:end]))
    return ""


def _that_tell(lines: list[str]) -> Iterator[str]:
    """The lines of a rule that can change what it makes: no remarks, resources or logs."""
    section = ""
    for line in lines:
        if line.startswith("    ") and not line[4:5].isspace():
            section = line.strip().split(":")[0]
        if line.strip() and not line.strip().startswith("#") and section not in CHANGES_NO_NUMBER:
            yield line.strip()


def _modules_named(path: Path) -> list[str]:
    """The modules of reconfmri that a file outside of the package imports."""
    return [name for name in _imported_names(path) if _file_of(name) is not None]


@cache
def _bytes_of(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _data_beside(folder: Path) -> list[Path]:
    return [item for item in folder.iterdir() if item.is_file() and item.suffix != ".py"]


@cache
def _imports_of(module: str) -> frozenset[Path]:
    found: set[Path] = set()
    waiting = [_file_of(module)]
    while waiting:
        path = waiting.pop()
        if path is None or path in found:
            continue
        found.add(path)
        waiting += [_file_of(name) for name in _imported_names(path)]
    return frozenset(found)


@cache
def _file_of(module: str) -> Path | None:
    stem = PACKAGE.joinpath(*module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _imports_in(path: Path) -> list[ast.Import | ast.ImportFrom]:
    nodes = _statements(ast.parse(_bytes_of(path)).body)
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield every statement at any depth; expressions, which are most of a tree, hold no import."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody", "cases"):
            inside = getattr(node, part, ())
            yield from _statements(inside if isinstance(inside, list) else ())


@cache
def _imported_names(path: Path) -> list[str]:
    """Modules of reconfmri, and names in them, that a file imports."""
    names: list[str] = []
    for node in _imports_in(path):
        if isinstance(node, ast.Import):
            names += [
                a.name.removeprefix("reconfmri.") for a in node.names if a.name.startswith("reconfmri.")
            ]
        elif (node.module or "").split(".")[0] == "reconfmri":
            base = (node.module or "").removeprefix("reconfmri").removeprefix(".")
            names += [f"{base}.{alias.name}".removeprefix(".") for alias in node.names]
            names += [base] if base else []
    packages = [name.rpartition(".")[0] for name in names]
    return names + [name for name in packages if name]


@cache
def _libraries_of(path: Path) -> frozenset[str]:
    """Installed packages that a file imports, by their import names."""
    names: set[str] = set()
    for node in _imports_in(path):
        given = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        names |= {name.split(".")[0] for name in given}
    return frozenset(names - {"", "reconfmri", "snakemake", "__future__"} - sys.stdlib_module_names)


@cache
def _version_of(library: str) -> str:
    try:
        return metadata.version(DISTRIBUTIONS.get(library, library))
    except metadata.PackageNotFoundError:
        return ""  # a part of another one, such as mpl_toolkits
