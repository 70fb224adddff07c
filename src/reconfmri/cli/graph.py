"""`reconfmri graph`: which rule follows which, or which job of one participant, as text or picture."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

from reconfmri.provenance import workflow_folder

NODE = re.compile(r'^\s*(id\d+)\["?(.*?)"?\]', re.MULTILINE)
EDGE = re.compile(r"^\s*(id\d+) --> (id\d+)", re.MULTILINE)


def show_graph(options: Namespace) -> int:
    """Print the graph in the form asked for."""
    kind = "dot" if options.format in ("dot", "svg") else "mermaid-js"
    graph = graph_of(options.study, kind, person=options.participant_label)
    print({"text": as_text, "svg": as_svg}.get(options.format, str)(graph))
    return 0


def graph_of(folder: Path, kind: str, *, person: str | None = None) -> str:
    """Return the graph of a study's rules, or of the jobs of a person, as `dot` or `mermaid-js` text.

    Raises
    ------
    ValueError
        Snakemake cannot plan the study; the text is what it says.
    """
    target, graph, config = "all", "--rulegraph", list[str]()
    if person:
        target, graph = "all_participant", "--dag"
        config = ["--config", f"only_participants={person.removeprefix('sub-')},"]
    command = [sys.executable, "-m", "snakemake", target, graph, kind, "--quiet", "all", "--nocolor"]
    command += ["--snakefile", str(workflow_folder() / "Snakefile"), "--directory", str(folder)]
    command += ["--workflow-profile", "none", *config]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ValueError((done.stdout + done.stderr).strip())
    lines = done.stdout.splitlines()
    # Snakemake prints the edges in the order of a set.
    edges = sorted(line for line in lines if EDGE.match(line))
    return "\n".join([line for line in lines if not EDGE.match(line)] + edges).strip() + "\n"


def as_text(mermaid: str) -> str:
    """Return one line per rule or job: its name, and what it is made from, in alphabetic order."""
    names = {node: " ".join(label.replace("\\n", " ").split()) for node, label in NODE.findall(mermaid)}
    made_from = defaultdict(set)
    for before, after in EDGE.findall(mermaid):
        made_from[names[after]].add(names[before])
    lines = [
        f"{name}: {', '.join(sorted(made_from[name]))}" if made_from[name] else name
        for name in sorted(names.values())
    ]
    return "\n".join(dict.fromkeys(lines))


def as_svg(dot: str) -> str:
    """Return the picture of a graph.

    Raises
    ------
    ValueError
        Graphviz is not installed.
    """
    if not shutil.which("dot"):
        raise ValueError("--format svg needs graphviz (`dot`). Fix: install it, or give --format mermaid")
    done = subprocess.run(["dot", "-Tsvg"], input=dot, text=True, capture_output=True, check=True)
    return done.stdout
