"""What the settings models allow at each place, in plain words.

Messages about scenarios, variables and flags all take their wording from the models'
own types, bounds and descriptions, so that no bound is written twice.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}
_PLURAL: Final[dict[Any, str]] = {int: "whole numbers", float: "numbers", str: "texts"}


class Place(NamedTuple):
    """A place in a tree of settings."""

    annotation: Any = None  # its type; None if the models do not know the place
    constraints: tuple[Any, ...] = ()
    unit: str = ""  # "" where it has none

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models a value here may be an instance of."""
        return tuple(
            option
            for option, _ in _options(self.annotation)
            if isinstance(option, type) and issubclass(option, BaseModel)
        )

    @property
    def choices(self) -> tuple[str, ...]:
        """The words a value here may be: literals, else kinds of models, else none."""
        literals = [
            str(choice)
            for option, _ in _options(self.annotation)
            if get_origin(option) is Literal
            for choice in get_args(option)
        ]
        if literals:
            return tuple(literals)
        models = self.models
        return tuple(tag_of(model)[1] for model in models) if len(models) > 1 else ()


def tag_of(model: type[BaseModel]) -> tuple[str, str]:
    """Return the field and the value that select ``model`` in a union, or two empty texts."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            return name, str(get_args(field.annotation)[0])
    return "", ""


def field_place(model: type[BaseModel], name: str) -> Place:
    """Return the place of a model's field, an unknown ``Place()`` if it has none so named."""
    field = model.model_fields.get(name)
    if field is None:
        return Place()
    unit = re.search(r"\[([^\]]+)\]$", field.description or "")
    dimension = unit[1] if unit and unit[1] not in ("-", "bool") else ""
    return Place(field.annotation, tuple(field.metadata), dimension)


def child(place: Place, key: str | int) -> Place:
    """Return the place of an entry of a mapping, or of an item of a list."""
    if place.models and isinstance(key, str):
        return field_place(place.models[0], key)
    for option, _ in _options(place.annotation):
        if get_origin(option) in (tuple, dict):
            item = get_args(option)[0 if get_origin(option) is tuple else 1]
            return Place(item, (), place.unit)
    return Place()


def place_at(model: type[BaseModel], path: tuple[str, ...]) -> Place:
    """Return the place that the keys of ``path`` lead to from ``model``."""
    place = Place(model)
    for key in path:
        place = child(place, key)
    return place


def allowed(place: Place) -> str:
    """Return what a value at ``place`` may be, in words."""
    if len(place.models) > 1:
        tag = tag_of(place.models[0])[0]
        return f"a mapping with {tag}: {', '.join(place.choices)}"
    words = [_words(option, found) for option, found in _options(place.annotation)]
    bounds = _bounds(place.constraints)
    unit = f" [{place.unit}]" if place.unit and not place.choices else ""
    return " or ".join(words) + (f" {bounds}" if bounds else "") + unit


def _options(annotation: Any, found: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the alternatives of a type, each with the constraints annotated on it."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        for item in extra:
            found += tuple(item.metadata) if isinstance(item, FieldInfo) else (item,)
        yield from _options(inner, found)
    elif get_origin(annotation) in (Union, types.UnionType):
        for option in get_args(annotation):
            yield from _options(option, found)
    else:
        yield annotation, found


def _words(option: Any, found: tuple[Any, ...]) -> str:
    origin, bounds = get_origin(option), _bounds(found)
    if option is type(None):
        text = "null"
    elif origin is Literal:
        text = ", ".join(str(choice) for choice in get_args(option))
    elif origin is tuple:
        item = Place(get_args(option)[0])
        inner, inner_found = next(_options(item.annotation))
        plural = _PLURAL.get(inner)
        text = "a list of " + (plural or f"({allowed(item)})")
        if plural and inner_found:
            text += f" {_bounds(inner_found)}"
    elif origin is dict:
        text = f"a mapping to {allowed(Place(get_args(option)[1]))}"
    elif isinstance(option, type) and issubclass(option, BaseModel):
        text = f"a mapping of {', '.join(option.model_fields)}"
    else:
        text = _PLAIN.get(option, "a value")
    return f"{text} {bounds}" if bounds else text


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else str(value)


def _bounds(constraints: tuple[Any, ...]) -> str:
    """Return constraints in words: ``from 1 to 64``, ``above 0 and at most 0.5``."""
    names = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
    limit = {
        name: getattr(item, name)
        for item in constraints
        for name in names
        if getattr(item, name, None) is not None
    }
    if "ge" in limit and "le" in limit:
        parts = [f"from {_number(limit['ge'])} to {_number(limit['le'])}"]
    else:
        words = {"ge": "from", "gt": "above", "le": "at most", "lt": "below"}
        parts = [f"{words[name]} {_number(limit[name])}" for name in words if name in limit]
    if "min_length" in limit:
        short = limit["min_length"]
        parts.append("not empty" if short == 1 else f"no shorter than {short}")
    if "max_length" in limit:
        parts.append(f"no longer than {limit['max_length']}")
    if "pattern" in limit:
        parts.append(f"matching {limit['pattern']}")
    return " and ".join(parts)
