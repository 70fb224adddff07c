"""Build the documentation as a web site that needs no network: `make docs`, into build/site/index.html.

The pages are the project's own Markdown at the same relative paths, so that a link works here and where the
source is read; and one page per rule of the workflow, made of the rule's own text, its declared files, the
settings that it reads and the tests of the code that it calls. Sphinx, MyST and furo do the rest.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from reconfmri.contracts.files import Layout
from reconfmri.contracts.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
COPIED = (
    "docs/*.md",
    "docs/*.png",
    "docs/*.svg",
    "docs/*.tsv",
    "docs/*.json",
    "config/**/*.md",
    "config/**/*.yaml",
)
COPIED += ("CONTRIBUTING.md", "CITATION.cff", "LICENSE", "envs/*.lock", "envs/*.yaml")
UNITS = {
    "scan": "one job per scan",
    "anatomy": "one job per person (or session, where each has its own anatomy)",
    "person": "one job per person",
    "scale": "one job per scale",
    "study": "one job per study",
}
# Modules that nearly every script imports.
EVERYWHERE = (
    "config",
    "decisions",
    "exclusions",
    "jobs",
    "locks",
    "measures",
    "provenance",
    "tables",
    "step",
    "layout",
    "bids",
)
# The site's table of contents: caption -> pages, without `.md`.
CONTENTS = {
    "Start": ["docs/first_trial", "docs/own_data", "docs/fmriprep", "docs/import", "docs/machines"],
    "Methods": [
        *("docs/preprocessing", "docs/distortion", "docs/quality", "docs/first_level", "docs/connectivity"),
        *("docs/recordings", "docs/scales", "docs/group", "docs/arms", "docs/voxels", "docs/associations"),
        *("docs/calibration", "docs/power", "docs/conduct"),
    ],
    "Look up": [
        "config/README",
        "docs/codes",
        "docs/glossary",
        "docs/scope",
        "docs/rulegraph",
        "docs/rules/index",
    ],
    "Change it": ["docs/architecture", "docs/extending", "docs/ci", "CONTRIBUTING"],
}
OPTIONS = {
    "extensions": "myst_parser",
    "myst_heading_anchors": "4",
    "html_theme": "furo",
    "html_title": "reconfmri",
    "project": "reconfmri",
    "html_show_copyright": "0",
    "html_copy_source": "0",
    "pygments_style": "friendly",
}


class Text(NamedTuple):
    """A rule as it is written: its file, its lines, the script that it runs."""

    file: str
    block: str
    script: str


@cache
def texts() -> dict[str, Text]:
    """Return rule -> its text in the workflow."""
    found = {}
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        source = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^rule (\w+):\n(?:(?:[ \t].*)?\n)*", source, flags=re.MULTILINE):
            script = re.search(r'"\.\./scripts/(\w+\.py)"', match[0])
            found[match[1]] = Text(path.name, match[0].rstrip(), script[1] if script else "")
    return found


def edges() -> list[tuple[str, str]]:
    """Return (from, to) of the demo's rule graph."""
    graph = (ROOT / "docs" / "rulegraph.md").read_text(encoding="utf-8")
    names = dict(re.findall(r"(id\d+)\[([\w ]+)\]", graph))
    return [(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", graph)]


def rule_page(name: str) -> str:
    """Return the page of one rule."""
    text, rule = texts()[name], RULES.get(name)
    purpose, modules = _script(text.script)
    lines = [f"# {name}", "", purpose, ""]
    facts = {
        "Work": UNITS[rule.of] if rule else "",
        "Made when": f"the study file has `{rule.needs}`" if rule and rule.needs else "",
        "Engine": f"`preprocessing.engine: {rule.engine}`" if rule and rule.engine else "",
        "After": ", ".join(_link(one) for one, other in edges() if other == name),
        "Before": ", ".join(_link(other) for one, other in edges() if one == name and other != "all"),
        "Settings": ", ".join(f"`{key}`" for key in _settings(text.block)),
        "Reads the arms": "yes" if "allocation" in text.block else "no",
        "Code": ", ".join(f"`{module}`" for module in modules),
        "Tests": ", ".join(f"`{test}`" for test in _tests(modules)),
    }
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items() if value), ""]
    if rule and rule.files:
        layout = Layout(has_sessions=True, has_runs=True)
        lines += ["## Files", "", "| file | what |", "|---|---|"]
        lines += [f"| `{layout.path(name, key)}` | {file.what} |" for key, file in rule.files.items()]
        lines.append("")
    return "\n".join(
        [*lines, "## Text", "", f"`workflow/rules/{text.file}`", "", "```python", text.block, "```", ""]
    )


def _link(name: str) -> str:
    return f"[{name}]({name}.md)" if name in texts() else name


def _settings(block: str) -> list[str]:
    """Keys of the study file that a rule's text reads."""
    found = re.findall(r"\bstudy\.([a-z_]+(?:\.[a-z_]+)*)", block)
    return sorted({key for key in found if not key.endswith("model_dump")})


def _script(name: str) -> tuple[str, list[str]]:
    """The first line of a script, and the modules of the library that it imports."""
    if not name:
        return "Runs a command.", []
    tree = ast.parse((ROOT / "workflow" / "scripts" / name).read_text(encoding="utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    own = sorted({module for module in modules if module.startswith("reconfmri.")})
    return ast.get_docstring(tree) or "", own


def _tests(modules: list[str]) -> list[str]:
    """Test files that import one of the modules which do the work of a rule."""
    mine = {module for module in modules if module.split(".")[1] not in EVERYWHERE}
    return [test for test, imported in _imports().items() if mine & imported]


@cache
def _imports() -> dict[str, set[str]]:
    """Test file -> what it imports."""
    found = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        names = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        found[path.relative_to(ROOT).as_posix()] = names | {str(node.module) for node in nodes}
    return found


def linked_graph() -> str:
    """Return the picture of the rule graph in which every rule leads to its page."""
    picture = (ROOT / "docs" / "rulegraph.svg").read_text(encoding="utf-8")
    picture = picture[picture.index("<svg") :]

    def linked(match: re.Match[str]) -> str:
        name = match[2]
        return f'<a href="rules/{name}.html">{match[0]}</a>' if name in texts() else match[0]

    picture = re.sub(r"(<text [^>]*>)(\w+)(?:</text>)", linked, picture)
    attributes = 'style="width:100%;height:auto" role="img" aria-label="Rule graph"'
    picture = re.sub(r"<!--.*?-->", "", picture.replace("<svg ", f"<svg {attributes} ", 1), flags=re.DOTALL)
    return f"<div>{' '.join(picture.split())}</div>"  # a blank line would end it for Markdown


def write_source(folder: Path) -> None:
    """Write everything that the site is made of."""
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in COPIED:
        for path in ROOT.glob(pattern):
            place = folder / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    trees = [
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```"
        for caption, pages in CONTENTS.items()
    ]
    (folder / "index.md").write_text("\n\n".join([readme, *trees]), encoding="utf-8")
    rules = folder / "docs" / "rules"
    rules.mkdir()
    for name in texts():
        (rules / f"{name}.md").write_text(rule_page(name), encoding="utf-8")
    rows = [
        f"| {_link(name)} | {_script(text.script)[0].splitlines()[0]} |" for name, text in texts().items()
    ]
    listed = "\n".join(
        ["# Rules", "", "One page per rule of the workflow.", "", "| rule | what |", "|---|---|", *rows]
    )
    tree = "```{toctree}\n:hidden:\n\n" + "\n".join(texts()) + "\n```\n"
    (rules / "index.md").write_text(f"{listed}\n\n{tree}", encoding="utf-8")
    graph = folder / "docs" / "rulegraph.md"
    text = re.sub(r"```mermaid\n.*?```", lambda _: linked_graph(), graph.read_text("utf-8"), flags=re.DOTALL)
    graph.write_text(text, encoding="utf-8")
    flow = folder / "docs" / "architecture.md"
    picture = "![The rules of the demo](rulegraph.svg)"  # nothing here draws mermaid
    text = re.sub(r"```mermaid\n.*?```", picture, flow.read_text("utf-8"), flags=re.DOTALL)
    flow.write_text(text, encoding="utf-8")
    for trials in folder.glob("config/trials"):
        studies = "\n".join(f"- [{path.name}]({path.name})" for path in sorted(trials.glob("*.yaml")))
        (trials / "README.md").write_text(
            f"---\norphan: true\n---\n# Study files\n\n{studies}\n", encoding="utf-8"
        )
    for path in folder.rglob("*.md"):
        path.write_text(_links(path.read_text(encoding="utf-8"), path), encoding="utf-8")


def _links(text: str, path: Path) -> str:
    """Links to README.md are to the first page, those to a folder to its README."""
    text = re.sub(r"\]\((\.\./)*README\.md", lambda match: match[0].replace("README.md", "index.md"), text)

    def of_folder(match: re.Match[str]) -> str:
        return f"]({match[1]}/README.md)" if (path.parent / match[1] / "README.md").is_file() else match[0]

    return re.sub(r"\]\(([\w./-]+)\)", of_folder, text)


def build(folder: Path) -> int:
    """Write source and site under a folder; return Sphinx's exit code, not 0 where a link leads nowhere."""
    source, site = folder / "site-source", folder / "site"
    write_source(source)
    settings = [word for key, value in OPTIONS.items() for word in ("-D", f"{key}={value}")]
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-C", "-W", "--keep-going", "-q", *settings]
    shutil.rmtree(site, ignore_errors=True)
    return subprocess.run([*command, str(source), str(site)], check=False).returncode


if __name__ == "__main__":
    failed = build(ROOT / "build")
    if not failed:
        print("wrote build/site/index.html")
    sys.exit(failed)
