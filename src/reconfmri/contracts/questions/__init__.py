"""Every group question, declared once; a new one is registered in the module that suits it."""

from reconfmri.contracts.questions import arms, responders, bounded, safety, missing  # noqa: I001 - answered in this order
from reconfmri.contracts.questions import associations, bayesian, voxels
from reconfmri.contracts.registry import (
    GroupQuestion,
    Section,
    every_file,
    files_of,
    forget,
    modules_of,
    path_of,
    place_of,
    questions_of,
    register,
    registered,
    specs,
)

__all__ = [
    "GroupQuestion",
    "Section",
    "arms",
    "associations",
    "bayesian",
    "bounded",
    "every_file",
    "files_of",
    "forget",
    "missing",
    "modules_of",
    "path_of",
    "place_of",
    "questions_of",
    "register",
    "registered",
    "responders",
    "safety",
    "specs",
    "voxels",
]
