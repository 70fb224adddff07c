"""The group questions: what each makes, by which rule, of what, and where the report shows it.

Nothing here imports what answers a question, so that the Snakefile can ask for files and rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from reconfmri.contracts.specs import TableSpec

PACKAGE = "reconfmri."


@dataclass(frozen=True)
class Section:
    """Where the page shows a question; with a title, as plain tables in a section of their own."""

    id: str
    title: str = ""
    introduction: str = ""


@dataclass(frozen=True)
class GroupQuestion:
    """A function of `group.asked.Asked` and the tables that it returns, one or several in their order.

    `function` is `module:name`, imported when it is asked. `needs`: inputs beyond measures, allocation and
    settings, of `events` and `seed`. `collects`: tables that it is given after `Asked`, made before it.
    `on_request`: made by an option of `reconfmri group` alone; it has no rule then. `of_images`: asked by a
    rule that gives it images too, where the study file wants it; a bare table of measures has none.
    `arms`: what it does where there are more than two. `all`: one model of all, each comparison in a row of
    its own; `pairs`: it is asked of each pair that is compared, among their people alone, as an exact test
    of two shares is; `two`: it has no answer, and its tables are empty.
    """

    name: str
    rule: str
    function: str | Callable[..., Any]
    tables: Mapping[str, TableSpec]
    section: Section | None = None
    needs: tuple[str, ...] = ()
    collects: tuple[str, ...] = ()
    on_request: bool = False
    of_images: bool = False
    arms: Literal["all", "pairs", "two"] = "two"

    @property
    def always(self) -> bool:
        """Whether measures and allocation are enough, so that every study and every table has the answer."""
        return not (self.on_request or self.of_images)

    @property
    def module(self) -> str:
        """The module that answers, without the package's name; empty for a function that is given itself."""
        return self.function.partition(":")[0].removeprefix(PACKAGE) if isinstance(self.function, str) else ""

    def answer(self, *given: Any) -> dict[str, Any]:
        """Return table name -> table, of `Asked` and what it collects."""
        function = self.function
        if isinstance(function, str):
            module, _, name = function.partition(":")
            function = getattr(import_module(module), name)
        found = function(*given)
        tables = [found] if len(self.tables) == 1 else list(found)
        return dict(zip(self.tables, tables, strict=True))


_QUESTIONS: dict[str, GroupQuestion] = {}


def register(question: GroupQuestion) -> GroupQuestion:
    """Add a question after those that are there.

    Raises
    ------
    ValueError
        Its name or one of its tables is taken, or what it collects is not made before it.
    """
    taken = {name for item in _QUESTIONS.values() for name in item.tables}
    twice = [name for name in question.tables if name in taken]
    if twice or question.name in _QUESTIONS:
        raise ValueError(f"group question {question.name!r}: it or its tables {twice} are registered already")
    if absent := [name for name in question.collects if name not in taken]:
        raise ValueError(f"group question {question.name!r}: {absent} are made by none before it")
    _QUESTIONS[question.name] = question
    return question


def forget(name: str) -> None:
    """Take a question out again, for who added it for a while."""
    del _QUESTIONS[name]


def registered() -> tuple[GroupQuestion, ...]:
    """Return every question, in the order in which they are answered: quick ones first."""
    return tuple(_QUESTIONS.values())


def questions_of(rule: str) -> tuple[GroupQuestion, ...]:
    """Return the questions that a rule of the workflow answers."""
    return tuple(item for item in registered() if item.rule == rule)


def modules_of(rule: str) -> list[str]:
    """Return the modules that answer a rule's questions: its code, beside what its script imports."""
    return list(dict.fromkeys(item.module for item in questions_of(rule) if item.module))


def specs() -> dict[str, TableSpec]:
    """Return table name -> what it holds, of every question."""
    return {name: spec for item in registered() for name, spec in item.tables.items()}


def place_of(table: str) -> str:
    """Return where a table lies in the results: the answers of all engines on top, the others in `group/`."""
    return "estimates.tsv" if table == "estimates" else f"group/{table}.tsv"


def path_of(table: str, root: str = "results") -> str:
    """Return the file of a table."""
    return f"{root}/{place_of(table)}"


def files_of(rule: str, root: str = "results") -> dict[str, str]:
    """Return table name -> file, of the tables that a rule makes."""
    return {name: path_of(name, root) for item in questions_of(rule) for name in item.tables}


def every_file(root: str = "results") -> dict[str, str]:
    """Return table name -> file, of every table that is made of measures and allocation alone."""
    return {name: path_of(name, root) for item in registered() if item.always for name in item.tables}
