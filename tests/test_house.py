"""The house rules that machines can keep: style, types, layers, formatting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "src", "tests", "workflow/scripts", "docs"],
        ["mypy"],
        ["lint-imports"],
        ["snakefmt", "--check", "Snakefile", "workflow"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_clean(command):
    done = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_script_of_its_name_and_every_science_rule_its_code():
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for block in path.read_text(encoding="utf-8").split("\nrule ")[1:]:
            name = block.split(":")[0]
            assert f'"../scripts/{name}.py"' in block, name
            assert (ROOT / "workflow" / "scripts" / f"{name}.py").is_file(), name
            assert "code=code_of(" in block, name
            for part in ("log:", "conda:", "resources:"):
                assert part in block, f"{name} lacks {part}"


def test_nothing_unsafe_is_called():
    forbidden = ("shell=True", "pickle.load", "joblib.load", "eval(", "exec(", "allow_pickle=True")
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for word in forbidden:
            assert word not in text, f"{path.name} uses {word}"


def test_ci_calls_the_makefile_and_pins_every_action():
    """A tag can be moved to other code, a commit cannot; and what a job does can be repeated by hand."""
    files = [*ROOT.glob(".github/**/*.yml"), ROOT / ".gitlab-ci.yml"]
    text = "\n".join(path.read_text() for path in files)
    actions = re.findall(r"uses: (\S+)", text)
    assert len(actions) > 5
    assert [name for name in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", name)] == []
    called = re.findall(r"make ((?:[a-z-]+ ?)+)(?=[\s,\]\"]|$)", text, flags=re.MULTILINE)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"lint", "test", "fresh", "wheel", "sbom", "audit"} <= set(" ".join(called).split()) <= targets
