"""Mutation testing: `python -m tests.mutation`; one small fault at a time, which a test must notice.

A mutant is one change in one line of `src/reconfmri`: a comparison, an operator, a number, a condition. It is
killed where one of the test files of its module fails, of which there are at most so many. Mutants are drawn
with a seed; the table has a row for each.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "reconfmri"
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
LIMIT = 300  # s for the tests of a mutant; one that takes longer is killed
COLUMNS = ("file", "line", "change", "result", "tests", "seconds")


class Mutant(NamedTuple):
    """One change: of the n-th node of a file that can be changed."""

    path: Path
    number: int
    line: int
    change: str


class Changer(ast.NodeTransformer):
    """Counts the nodes that can be changed, and changes one of them; docstrings and annotations stay."""

    def __init__(self, wanted: int | None = None):
        self.wanted, self.found = wanted, list[tuple[int, str]]()

    def visit(self, node: ast.AST) -> ast.AST:
        """Change the wanted node, else go on below."""
        for new, change in _changed(node):
            self.found.append((getattr(node, "lineno", 0), change))
            if self.wanted == len(self.found) - 1:
                return ast.copy_location(new, node)
        if isinstance(node, ast.AnnAssign | ast.arg | ast.FunctionDef):
            return _without_annotations(node, self)
        return self.generic_visit(node)


def _without_annotations(node: ast.AST, changer: Changer) -> ast.AST:
    """Visit what is no annotation."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        node.value = changer.visit(node.value)
    if isinstance(node, ast.FunctionDef):
        node.body = [changer.visit(item) for item in node.body]
        node.args.defaults = [changer.visit(item) for item in node.args.defaults]
    return node


def _changed(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """The changes of one node, with their descriptions."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPS:
        new = SWAPS[type(node.ops[0])]()
        yield ast.Compare(node.left, [new], node.comparators), _arrow(node.ops[0], new)  # type: ignore[list-item]
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not _is_text(node):
        new = SWAPS[type(node.op)]()
        yield ast.BinOp(node.left, new, node.right), _arrow(node.op, new)  # type: ignore[arg-type]
    if isinstance(node, ast.BoolOp):
        new = SWAPS[type(node.op)]()
        yield ast.BoolOp(new, node.values), _arrow(node.op, new)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand, f"without {type(node.op).__name__}"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1), f"{node.value} -> {node.value + 1}"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value), f"{node.value} -> {not node.value}"
    if isinstance(node, ast.If):
        yield ast.If(ast.Constant(False), node.body, node.orelse), "if -> if False"


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(isinstance(s, ast.JoinedStr) or isinstance(getattr(s, "value", None), str) for s in sides)


def _arrow(old: ast.AST, new: ast.AST) -> str:
    return f"{type(old).__name__} -> {type(new).__name__}"


def every_mutant() -> list[Mutant]:
    """Return every change of the library."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        changer = Changer()
        changer.visit(ast.parse(path.read_text(encoding="utf-8")))
        found += [Mutant(path, n, line, change) for n, (line, change) in enumerate(changer.found)]
    return found


def tests_of(path: Path) -> list[Path]:
    """Return the test files of a module, those of its name and those that name most of what it defines first.

    Where none does, the tests of the modules that import it.
    """
    modules, seen = {path}, set[Path]()
    while modules - seen:
        scores = {test: sum(_closeness(test, module) for module in modules - seen) for test in _tests()}
        if found := [test for test, score in scores.items() if score]:
            return sorted(found, key=lambda test: (-scores[test], test.stat().st_size))
        seen |= modules
        names = {_name_of(module) for module in seen}
        modules = {module for module, imported in _modules().items() if imported & names}
    return []


def _closeness(test: Path, module: Path) -> int:
    """How much a test file has to do with a module: its name, its import, names that it defines."""
    words, imported = _tests()[test]
    mine = len(_defined(module) & words)
    of_package = module.parent != SOURCE and module.parent.name in test.stem
    return (
        mine
        + 2 * (_name_of(module) in imported)
        + 3 * (module.stem in test.stem and mine > 0)
        + 2 * of_package
    )


@cache
def _defined(module: Path) -> set[str]:
    """Public names of a module that are long enough to be its own."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    names = {item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)}
    return {name for name in names if not name.startswith("_") and len(name) > 5}


def _name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def _tests() -> dict[Path, tuple[set[str], set[str]]]:
    """Test file -> its words, and the modules that it imports."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    words = {file: set(re.findall(r"[A-Za-z_]\w+", file.read_text(encoding="utf-8"))) for file in files}
    return {file: (words[file], _imported(file)) for file in files}


@cache
def _modules() -> dict[Path, set[str]]:
    return {path: _imported(path) for path in sorted(SOURCE.rglob("*.py"))}


def _imported(path: Path) -> set[str]:
    """Modules that a file imports, those that are named by `from package import module` too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{item.name}" for item in node.names)}
    return names


def judge(mutant: Mutant, folder: Path, most: int) -> tuple[str, str]:
    """Return what became of a mutant in the copy of the library, and the tests that ran.

    `killed`, `survived`, or `not judged` where its tests fail without it.
    """
    tests = tuple(tests_of(mutant.path)[:most])
    if not tests:
        return "survived", "no test imports it"
    shown = " ".join(test.relative_to(ROOT).as_posix() for test in tests)
    if not _pass(tests, folder):
        return "not judged", shown
    path = folder / mutant.path.relative_to(ROOT)
    kept = path.read_bytes()
    tree = Changer(mutant.number).visit(ast.parse(kept))
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    try:
        return ("survived" if _run(tests, folder) else "killed"), shown
    finally:
        path.write_bytes(kept)


@cache
def _pass(tests: tuple[Path, ...], folder: Path) -> bool:
    """Whether tests pass with the library as it is."""
    return _run(tests, folder)


def _run(tests: tuple[Path, ...], folder: Path) -> bool:
    """Whether tests pass with the library of a folder in the time that they have."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", "-m"]
    place = {"PYTHONPATH": f"{folder / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, "not slow", *map(str, tests)],
            cwd=ROOT,
            env={**os.environ, **place},
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> int:
    """Draw the mutants, judge each, write the table as it grows; 1 where fewer are killed than the goal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=3, help="test files per module")
    parser.add_argument("--goal", type=float, default=0.95)
    parser.add_argument("--table", type=Path, default=Path("docs/mutation.tsv"))
    given = parser.parse_args()
    mutants = every_mutant()
    chosen = random.Random(given.seed).sample(mutants, given.mutants)
    print(f"{len(chosen)} of {len(mutants)} mutants", flush=True)
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(SOURCE, folder / "src" / "reconfmri")
        for item in ROOT.iterdir():  # what the library looks for beside itself
            if item.name != "src":
                (folder / item.name).symlink_to(item)
        for mutant in chosen:
            started = time.monotonic()
            result, tests = judge(mutant, folder, given.most)
            place = mutant.path.relative_to(ROOT).as_posix()
            rows.append((place, mutant.line, mutant.change, result, tests, round(time.monotonic() - started)))
            print(*rows[-1], sep="\t", flush=True)
            lines = ["\t".join(map(str, row)) for row in (COLUMNS, *rows)]
            given.table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    judged = [row for row in rows if row[3] != "not judged"]
    share = sum(row[3] == "killed" for row in judged) / len(judged)
    print(f"killed: {share:.1%} of {len(judged)}, not judged {len(rows) - len(judged)}")
    return 0 if share >= given.goal else 1


if __name__ == "__main__":
    sys.exit(main())
