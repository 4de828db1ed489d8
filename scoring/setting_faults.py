"""Turns pydantic's validation errors into sentences for the person who wrote the settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scoring.settings import UNMET

_LONGEST_VALUE = 80

#: What a value must be, by pydantic's error type. The context holds the bound.
_RULES: Mapping[str, Callable[[Mapping[str, object]], str]] = {
    UNMET: lambda context: str(context["rule"]),
    "greater_than": lambda context: f"above {_number(context['gt'])}",
    "greater_than_equal": lambda context: f"at least {_number(context['ge'])}",
    "less_than": lambda context: f"below {_number(context['lt'])}",
    "less_than_equal": lambda context: f"at most {_number(context['le'])}",
    "literal_error": lambda context: str(context["expected"]).replace("'", ""),
    "too_short": lambda context: f"a list of {context['min_length']} or more values",
    "finite_number": lambda context: "a finite number",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), lambda _: "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), lambda _: "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), lambda _: "true or false"),
    **dict.fromkeys(("string_type", "string_sub_type"), lambda _: "a text"),
    **dict.fromkeys(("tuple_type", "list_type", "iterable_type"), lambda _: "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), lambda _: "a group of keys"),
}


def setting_faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one sentence, without its full stop, for each key at fault: "finetune.lr must be above 0, got -1".

    Parameters
    ----------
    error : the error that validation raised.
    model : the validated class, which defines the valid keys.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for fault in error.errors():
        by_key.setdefault(_key(model, fault), []).append(fault)
    return [_sentence(model, key, faults) for key, faults in by_key.items()]


def _sentence(model: type[BaseModel], key: str, faults: list[ErrorDetails]) -> str:
    """Describe one key. It has several faults if its type has alternatives, such as a count or `all`."""
    first = faults[0]
    if first["type"] == "extra_forbidden":
        section, _, name = key.rpartition(".")
        near = difflib.get_close_matches(name, _keys(_model_at(model, first["loc"][:-1])), n=1, cutoff=0.0)
        hint = f" (nearest valid key: {section}{'.' if section else ''}{near[0]})" if near else ""
        return f"unknown key {key}{hint}"
    if first["type"] == "missing":
        return f"key {key} is missing"
    rules = list(dict.fromkeys(rule for fault in faults if (rule := _rule(model, fault)) is not None))
    if not rules:
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    return f"{key} must be {' or '.join(rules)}, got {_value(first['input'])}"


def _rule(model: type[BaseModel], fault: ErrorDetails) -> str | None:
    """Return what the value must be, or None if the fault comes with its own sentence."""
    if fault["type"] == "string_pattern_mismatch":
        # The description of a field with a pattern says in words what the pattern means.
        return _description(model, fault["loc"]) or f"of the form {fault['ctx']['pattern']}"
    rule = _RULES.get(fault["type"])
    return None if rule is None else rule(fault.get("ctx", {}))


def _key(model: type[BaseModel], fault: ErrorDetails) -> str:
    """Return the key as the user writes it, without pydantic's names for the alternatives of a union."""
    inner: type[BaseModel] | None = model
    key = ""
    for place, part in enumerate(fault["loc"]):
        last = place == len(fault["loc"]) - 1
        if isinstance(part, int):
            key += f"[{part}]"
        elif part in _keys(inner) or (last and fault["type"] == "extra_forbidden"):
            key += f".{part}" if key else part
            inner = _section(inner, part)
    return key


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the section at a location, or None if there is none."""
    inner: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and part in _keys(inner):
            inner = _section(inner, part)
    return inner


def _description(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Return the description of the field at a location as part of a sentence, or an empty text if it has none."""
    section = _model_at(model, location[:-1])
    for name, field in ({} if section is None else section.model_fields).items():
        if location[-1] in (name, field.alias):
            text = (field.description or "").rstrip(".")
            return text[:1].lower() + text[1:]
    return ""


def _keys(model: type[BaseModel] | None) -> list[str]:
    """Return the keys of a section as the user writes them."""
    return [] if model is None else [field.alias or name for name, field in model.model_fields.items()]


def _section(model: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """Return the section below a key, or None if its values are plain."""
    for name, field in ({} if model is None else model.model_fields).items():
        if key == (field.alias or name):
            return _nested(field.annotation)
    return None


def _nested(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _nested(part)) is not None), None)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(value: object) -> str:
    """Format a value as in a YAML file, shortened if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
