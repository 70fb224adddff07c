"""Write what is made from code and lock: config schema, config/README.md, rule graph, conda environment.

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 when one on disk is not what the code says
python docs/generate.py --draw     also draws docs/rulegraph.svg, which needs graphviz
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from reconfmri.config import Study, load_study

CONDA = (
    "# For `snakemake --sdm conda`; without it this file is not read: the workflow then runs in the",
    "# environment it was started from. Made by `python docs/generate.py` from requirements.lock.",
    "# RECONFMRI_SOURCE is what pip installs of the package: a wheel (`make wheel`) or a clone. The",
    "# workflow of a clone sets it to itself.",
    *("channels:", "  - conda-forge", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"),
)
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "workflow"))
from planned_study import plan_study, snakemake  # noqa: E402


def config_schema() -> str:
    """Return the JSON schema of the study file."""
    schema = Study.model_json_schema()
    schema["properties"]["group"]["anyOf"].append({"const": "none"})
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def config_readme() -> str:
    """Return `config/README.md`: every key with type, unit and meaning, default and the demo's value."""
    example = load_study(ROOT / "config" / "config.yaml").model_dump(mode="json")
    lines = [
        "# The study file",
        "",
        "Made by `python docs/generate.py` from `src/reconfmri/config/`; CI checks that it is fresh.",
        "Unknown keys, duplicate keys and values out of range stop before any compute. The examples are",
        "from `config.yaml` beside this file. `trials/` holds one study file per published or public design.",
        "",
    ]
    lines += _section_lines(Study, "", example)
    return "\n".join(lines).rstrip() + "\n"


def _section_lines(model: type[BaseModel], prefix: str, example: Any) -> list[str]:
    lines = [f"## {prefix or 'Top level'}", "", f"{(model.__doc__ or '').splitlines()[0]}", ""]
    lines += ["| key | type | default | example | meaning |", "|---|---|---|---|---|"]
    inner: list[str] = []
    for name, field in model.model_fields.items():
        value = example.get(name) if isinstance(example, dict) else None
        part = _section_of(field.annotation)
        key = f"{prefix}.{name}" if prefix else name
        if part:
            child = value if part is field.annotation else _first_of(value)
            nested = key + (".*" if value is not child else "")
            inner += _section_lines(part, nested, child)
            shown = "see below"
        else:
            shown = _cell(value)
        default = "required" if field.is_required() else _cell(field.get_default(call_default_factory=True))
        meaning = (
            field.description or (part.__doc__ or "").splitlines()[0] if part else field.description or ""
        )
        lines.append(f"| `{name}` | {_type_name(field.annotation)} | {default} | {shown} | {meaning} |")
    return [*lines, "", *inner]


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((part for arg in get_args(annotation) if (part := _section_of(arg))), None)


def _first_of(value: Any) -> Any:
    """The example of a nested section: itself, or the first of a list or mapping of sections."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return value[0]
    if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
        return next(iter(value.values()))
    return value


def _type_name(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"typing\.|reconfmri\.config\.\w+\.|NoneType", "", text)
    if "Annotated[" in text or "FieldInfo" in text:
        text = (
            "list" if text.startswith("list") else "mapping" if text.startswith("dict") else "number or label"
        )
    return text.replace("|", "or").replace(" or None", " or none")


def _cell(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "as below"
    if value is None or value == [] or value == {}:
        return "none"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return "`" + (text if len(text) < 60 else text[:57] + "...") + "`"


def rule_graph(kind: str) -> str:
    """Return the demo's rule graph as `dot` or `mermaid-js` text."""
    with tempfile.TemporaryDirectory() as folder:
        study = plan_study(Path(folder) / "study", participants=1, sessions=2)
        lines = snakemake(study, "--rulegraph", kind, "--quiet").stdout.splitlines()
    # Snakemake prints the edges in the order of a set.
    edges = sorted(line for line in lines if "-->" in line)
    return "\n".join([line for line in lines if "-->" not in line] + edges)


def conda_environment() -> str:
    """Return `envs/reconfmri.yaml`: Python, and by pip what the lock pins and this package.

    Snakemake copies the file elsewhere, so that it cannot point at the lock; and pip wants a hash of all
    once it has one, and there is none of a wheel that is built here.
    """
    lock = (ROOT / "envs" / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(r"^([a-z0-9][^ ]*==[^ ]+)", lock, flags=re.MULTILINE)
    return "\n".join([*CONDA, *(f"      - {name}" for name in (*pinned, "${RECONFMRI_SOURCE}"))]) + "\n"


def documents() -> dict[Path, str]:
    """Return path -> text of every generated document."""
    graph = rule_graph("mermaid-js")
    told = "Made by `python docs/generate.py`; CI checks that it is fresh. Picture: [SVG](rulegraph.svg)."
    page = f"# Rule graph\n\n{told}\n\n```mermaid\n{graph.strip()}\n```\n"
    return {
        ROOT / "workflow" / "schemas" / "config.schema.json": config_schema(),
        ROOT / "config" / "README.md": config_readme(),
        ROOT / "docs" / "rulegraph.md": page,
        ROOT / "envs" / "reconfmri.yaml": conda_environment(),
    }


def draw() -> None:
    """Draw the rule graph as SVG."""
    drawn = subprocess.run(
        ["dot", "-Tsvg"], input=rule_graph("dot"), text=True, capture_output=True, check=True
    ).stdout
    (ROOT / "docs" / "rulegraph.svg").write_text(drawn, encoding="utf-8")


def main() -> int:
    """Write or check; return the exit code."""
    check = "--check" in sys.argv
    made = documents()
    stale = [path for path in made if not path.is_file() or path.read_text(encoding="utf-8") != made[path]]
    for path in stale:
        print(path.relative_to(ROOT), "is stale: run python docs/generate.py" if check else "written")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
    if "--draw" in sys.argv:
        draw()
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
