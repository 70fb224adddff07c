"""From YAML to a checked study, or to one line per problem."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from reconfmri.config.section import Section
from reconfmri.config.study import Study, TableStudy, Trial, check_group
from reconfmri.files import UnreadableError, read_text

CONFIG = "config/config.yaml"  # the study file, from the study folder
Sections = TypeVar("Sections", bound=BaseModel)


def load_study(path: str | Path) -> Study:
    """Return the checked study of a YAML file.

    Raises
    ------
    ValueError
        The file is not YAML, has a key twice or a key we do not know, a value is out of its range, or parts
        of the study contradict one another; one line per problem, each with key, value and fix.
    """
    raw = _read_yaml(path)
    try:
        return parse_config(raw)
    except ValueError as error:
        raise _naming(path, error) from None


def load_section(path: str | Path, model: type[Sections]) -> Sections:
    """Return a section of its own file, such as the map of an import.

    Raises
    ------
    ValueError
        As `load_study`.
    """
    raw = _read_yaml(path)
    try:
        if not isinstance(raw, dict):
            raise ValueError(f"E-CONF-C02 it must be a mapping of keys, got {type(raw).__name__}")
        return _parse(model, raw)
    except ValueError as error:
        raise _naming(path, error) from None


def load_trial(path: str | Path, units: Mapping[str, str]) -> Trial | None:
    """Return what a study file asks of a table of measures; None for a study without arms.

    The file is a whole study file, or has only the keys of `TableStudy`; `units` are those of the outcomes
    in the table.

    Raises
    ------
    ValueError
        As `load_study`.
    """
    raw = _read_yaml(path)
    try:
        if not isinstance(raw, dict) or not set(raw) <= set(TableStudy.model_fields):
            return parse_config(raw).trial
        told = _parse(TableStudy, raw)
        try:
            check_group(told.group, list(told.session_names), units)
        except ValueError as error:
            raise ValueError(f"{_code_of(error)} {error}") from None
        return told.trial_of(told.group, units, {})
    except ValueError as error:
        raise _naming(path, error) from None


def parse_config(raw: object) -> Study:
    """Return the checked study of a mapping, as read from YAML.

    Raises
    ------
    ValueError
        One line per problem: key, what is wrong, the fix.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"E-CONF-C02 the study file must be a mapping of keys, got {type(raw).__name__}")
    if "__use_yte__" in raw:
        raise ValueError("E-CONF-F06 __use_yte__: code in a study file is refused. Fix: delete the key")
    if raw.get("group") == "none":
        raw = raw | {"group": None}
    return _parse(Study, raw)


def _naming(path: str | Path, error: ValueError) -> ValueError:
    """The error with the file named after the code of each line."""
    lines = [line.partition(" ") for line in str(error).splitlines()]
    return ValueError("\n".join(f"{code} {path}: {text}" for code, _, text in lines))


def _read_yaml(path: str | Path) -> object:
    """What a YAML file holds, whatever it is."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise ValueError(
            f"E-CONF-C02 {path}: there is no such file. Fix: `reconfmri init` writes one"
        ) from None
    except UnreadableError as error:
        raise ValueError(f"E-CONF-C02 {path}: {error.what}. Fix: {error.fix(str(path))}") from None
    try:
        return cast(object, yaml.load(text, Loader=_StrictLoader))  # noqa: S506 - safe, refuses duplicates
    except _GivenTwice as error:
        raise ValueError(f"E-CONF-C03 {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"E-CONF-C02 {path}: not valid YAML: {_place_in_yaml(error)}") from None


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
        lines = [_on_one_line(_explain(item, model)) for item in error.errors()]
        raise ValueError("\n".join(lines)) from None


def _explain(item: Any, model: type[BaseModel]) -> str:
    """One line for one pydantic error of a model: code, key, what is wrong, what was got, the fix."""
    keys = [
        text if (text := str(part)).isprintable() and text.strip() else repr(text) for part in item["loc"]
    ]
    where = ".".join(keys) or "study"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], _all_keys(model), n=1)
        return f"E-CONF-C01 {where}: unknown key. Fix: " + (
            f"did you mean {near[0]!r}?" if near else "delete it"
        )
    if item["type"] == "missing":
        return f"E-CONF-C02 {where}: this key is missing. Fix: add it{_expectation(item['loc'], model)}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        if not (message.startswith(where) or where == "study"):
            inside = re.split(r"\W", message)[0] in _at(item["loc"], model)[1].model_fields
            message = f"{where}{'.' if inside else ': '}{message}"
        return f"{_code_of(item['ctx']['error'])} {message}"
    got = item["input"]
    quotes = _in_quotes(got) if item["type"] == "string_type" else ""
    fix = quotes or ". Fix: correct the value"
    return f"E-CONF-C02 {where}: {message}, got {got!r}{fix}{_expectation(item['loc'], model)}"


def _on_one_line(text: str) -> str:
    """The text with what would break the line, from a key or a value, spelt out."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def _code_of(error: Exception) -> str:
    return str(getattr(error, "code", "E-CONF-C02"))


def _in_quotes(got: Any) -> str:
    """The fix of a text that YAML reads as a truth value or a number."""
    if isinstance(got, bool):
        return '; YAML reads yes, no, on, off as truth values. Fix: put the label in quotes, "yes"'
    return f'. Fix: put it in quotes, "{got}"' if isinstance(got, int | float) else ""


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
            raise _GivenTwice(f"the key {key!r} stands on lines {seen[key]} and {line}. Fix: keep one")
        seen[key] = line
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_PLAIN = re.compile(
    r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
for _tag in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _as_written)
