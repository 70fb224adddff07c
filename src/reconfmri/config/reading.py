"""From YAML to a checked study, or to one line per problem."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from reconfmri.config.arms import TAGS
from reconfmri.config.section import Section
from reconfmri.config.study import Study, TableStudy, Trial, check_group
from reconfmri.files import UnreadableError, read_text
from reconfmri.problems import Problem, SettingError, StudyFileError

CONFIG = "config/config.yaml"  # the study file, from the study folder
Sections = TypeVar("Sections", bound=BaseModel)


def load_study(path: str | Path) -> Study:
    """Return the checked study of a YAML file.

    Raises
    ------
    StudyFileError
        The file is not YAML, has a key twice or a key we do not know, a value is out of its range, or parts
        of the study contradict one another; one line per problem, each with key, value and fix.
    """
    with _named(path):
        return parse_config(_read_yaml(path))


def load_section(path: str | Path, model: type[Sections]) -> Sections:
    """Return a section of its own file, such as the map of an import.

    Raises
    ------
    StudyFileError
        As `load_study`.
    """
    with _named(path):
        return _parse(model, _mapping(_read_yaml(path)))


def load_trial(path: str | Path, units: Mapping[str, str]) -> Trial | None:
    """Return what a study file asks of a table of measures; None for a study without arms.

    The file is a whole study file, or has only the keys of `TableStudy`; `units` are those of the outcomes
    in the table.

    Raises
    ------
    StudyFileError
        As `load_study`.
    """
    with _named(path):
        raw = _mapping(_read_yaml(path))
        if not set(raw) <= set(TableStudy.model_fields):
            return parse_config(raw).trial
        study = _parse(TableStudy, raw)
        try:
            check_group(study.group, list(study.session_names), units)
        except SettingError as error:
            raise StudyFileError([_problem(error.code, error.what, error.fix)]) from None
        return study.trial_of(study.group, units, {})


def parse_config(raw: object) -> Study:
    """Return the checked study of a mapping, as read from YAML.

    Raises
    ------
    StudyFileError
        One line per problem: key, what is wrong, the fix.
    """
    raw = _mapping(raw)
    if "__use_yte__" in raw:
        problem = _problem("E-CONF-F06", "__use_yte__: code in a study file is refused", "delete the key")
        raise StudyFileError([problem])
    if raw.get("group") == "none":
        raw = raw | {"group": None}
    return _parse(Study, raw)


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Name the file in each problem."""
    try:
        yield
    except StudyFileError as error:
        raise StudyFileError([replace(problem, file=str(path)) for problem in error.problems]) from None


def _problem(code: str, what: str, fix: str) -> Problem:
    return Problem("STOP", code, _on_one_line(what), _on_one_line(fix))


def _mapping(raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict):
        what = f"the file must be a mapping of keys, got {type(raw).__name__}"
        raise StudyFileError([_problem("E-CONF-C02", what, "begin it with a key, such as `name: my_trial`")])
    return raw


def _read_yaml(path: str | Path) -> object:
    """What a YAML file holds, whatever it is."""
    try:
        text = read_text(path)
        return cast(object, yaml.load(text, Loader=_StrictLoader))  # noqa: S506 - safe, refuses duplicates
    except FileNotFoundError:
        problem = _problem("E-CONF-C02", "there is no such file", "`reconfmri init` writes one")
    except UnreadableError as error:
        problem = _problem("E-CONF-C02", error.what, error.fix(str(path)))
    except _GivenTwice as error:
        problem = _problem("E-CONF-C03", str(error), "keep one")
    except yaml.YAMLError as error:
        what = f"not valid YAML: {_place_in_yaml(error)}"
        problem = _problem("E-CONF-C02", what, "correct that place")
    raise StudyFileError([problem])


def _place_in_yaml(error: yaml.YAMLError) -> str:
    """What is wrong and where; the text itself may be that of any file and is not shown."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None:
        return "it holds characters that no YAML file may have"
    return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"


def _parse(model: type[Sections], raw: object) -> Sections:
    try:
        # Through JSON: strict about types, yet a YAML list may fill a tuple.
        return model.model_validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise StudyFileError([_explain(item, model) for item in error.errors()]) from None


def _explain(item: Any, model: type[BaseModel]) -> Problem:
    """One pydantic error of a model: code, key, what is wrong, what was got, the fix."""
    keys = [
        text if (text := str(part)).isprintable() and text.strip() else repr(text)
        for part in item["loc"]
        if part not in TAGS
    ]
    where = ".".join(keys) or "study"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _all_keys(model), n=1)
        fix = f"did you mean {near[0]!r}?" if near else "delete it"
        return _problem("E-CONF-C01", f"{where}: unknown key", fix)
    if item["type"] == "missing":
        fix = f"add it{_expectation(item['loc'], model)}"
        return _problem("E-CONF-C02", f"{where}: this key is missing", fix)
    if item["type"] == "value_error":
        error = item["ctx"]["error"]
        what = error.what
        if not (what.startswith(where) or where == "study"):
            inside = re.split(r"\W", what)[0] in _at(item["loc"], model)[1].model_fields
            what = f"{where}{'.' if inside else ': '}{what}"
        return _problem(error.code, what, error.fix)
    got = item["input"]
    reason = "; YAML reads yes, no, on, off as truth values" if isinstance(got, bool) else ""
    fix = _in_quotes(got) if item["type"] == "string_type" else ""
    what = f"{where}: {item['msg']}, got {got!r}{reason}"
    return _problem("E-CONF-C02", what, f"{fix or 'correct the value'}{_expectation(item['loc'], model)}")


def _on_one_line(text: str) -> str:
    """The text with what would break the line, from a key or a value, spelt out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _in_quotes(got: Any) -> str:
    """The fix of a text that YAML reads as a truth value or a number."""
    if isinstance(got, bool):
        return 'put the label in quotes, "yes"'
    return f'put it in quotes, "{got}"' if isinstance(got, int | float) else ""


def _expectation(loc: tuple[str | int, ...], root: type[BaseModel]) -> str:
    """What the key at `loc` holds, its range and an example, as far as the model tells."""
    info, _ = _at(loc, root)
    if info is None or not info.description:
        return ""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    bounds = [f"{words[key]} {value:g}" for key, value in _bounds(info.metadata)]
    example = (
        ""
        if info.is_required() or not isinstance(info.default, str | int | float)
        else f", e.g. {info.default}"
    )
    return f"; expected: {info.description}" + (f" ({', '.join(bounds)})" if bounds else "") + example


def _at(loc: tuple[str | int, ...], root: type[BaseModel]) -> tuple[FieldInfo | None, type[BaseModel]]:
    """The field that `loc` leads to, and the section in it; a bare one where there is none."""
    info, model = None, root
    for part in loc:
        if part in model.model_fields:
            info = model.model_fields[str(part)]
            model = next(iter(_sections_in(info.annotation)), Section)
    return info, model


def _bounds(metadata: list[Any]) -> list[tuple[str, float]]:
    keys = ("ge", "gt", "le", "lt")
    return [
        (key, getattr(rule, key)) for rule in metadata for key in keys if getattr(rule, key, None) is not None
    ]


def _all_keys(model: type[BaseModel]) -> list[str]:
    """Every key of a section and of the sections inside it."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(name)
        for part in _sections_in(info.annotation):
            keys += _all_keys(part)
    return keys


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]


class _GivenTwice(yaml.YAMLError):
    """A key occurs twice in one mapping."""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, and leaves labels as they are written."""


def _as_written(loader: _StrictLoader, node: yaml.ScalarNode) -> int | float | str:
    """A plain decimal as a number; `01`, `1_0` and `1:30`, which YAML 1.1 reads as 1, 10 and 90, as text."""
    if _PLAIN.fullmatch(node.value) is None:
        return str(node.value)
    is_int = node.tag.endswith(":int")
    return int(loader.construct_yaml_int(node)) if is_int else float(loader.construct_yaml_float(node))


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: dict[Hashable, int] = {}
    for key_node, _ in node.value:
        if key_node.tag.endswith(":merge"):
            continue
        if isinstance(key_node, yaml.ScalarNode):
            key_node.tag = "tag:yaml.org,2002:str"  # `yes` and `1` are labels here
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise _GivenTwice(f"the key {key!r} is on lines {seen[key]} and {line}")
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_PLAIN = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
for _tag in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _as_written)
