"""What the settings models allow in each field, in plain words.

Messages about scenarios, variables and flags take their wording from the models' own types,
bounds and descriptions, so that no bound is written twice.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from f110_fl.config.keys import Key, KeyPath
from sim.settings import FilePath

_PLAIN: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}
_PLURAL: Final[dict[Any, str]] = {int: "whole numbers", float: "numbers", str: "texts"}


class Field(NamedTuple):
    """A field of the settings, or an entry of a field."""

    annotation: Any = None  # its type; None if the models do not know the field
    constraints: tuple[Any, ...] = ()
    unit: str = ""
    description: str = ""  # without its unit

    @property
    def phrase(self) -> str:
        """Its description, in lower case as in a sentence; names such as W&B stay unchanged."""
        text = self.description
        return text[:1].lower() + text[1:] if text.split(" ")[0][1:].islower() else text

    @property
    def first(self) -> Field:
        """The field as if its type's first alternative were the only one."""
        annotation, found = next(_options(self.annotation))
        return self._replace(annotation=annotation, constraints=(*found, *self.constraints))

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models of which a value may be an instance."""
        return tuple(
            option
            for option, _ in _options(self.annotation)
            if isinstance(option, type) and issubclass(option, BaseModel)
        )

    def tagged(self, tag: Key) -> Field:
        """The field as if only the alternative of this tag were there."""
        for option, found in _options(self.annotation):
            if any(isinstance(item, Tag) and item.tag == tag for item in found):
                return self._replace(annotation=option)
        return self

    @property
    def tags(self) -> set[str]:
        """Pydantic's names of a union's alternatives in the location of an error."""
        found = (item for _, items in _options(self.annotation) for item in items)
        return {item.tag for item in found if isinstance(item, Tag)}

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed: literals, or the kinds of models; otherwise empty."""
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


def field_of(model: type[BaseModel], name: str) -> Field:
    """Return a model's field, an unknown ``Field()`` if it has no field of that name."""
    info = model.model_fields.get(name)
    if info is None:
        return Field()
    about, _, unit = (info.description or "").rpartition(". [")
    unit = unit.rstrip("]")
    if unit in ("-", "bool"):
        unit = ""
    return Field(info.annotation, tuple(info.metadata), unit, about)


def child(field: Field, key: Key) -> Field:
    """Return the field of a mapping's entry or of a list's item."""
    if field.models and isinstance(key, str):
        return field_of(field.models[0], key)
    for option, _ in _options(field.annotation):
        if get_origin(option) in (tuple, dict):
            item = get_args(option)[0 if get_origin(option) is tuple else 1]
            return Field(item, (), field.unit)
    return Field()


def field_at(model: type[BaseModel], path: KeyPath) -> Field:
    """Return the field at ``path`` in ``model``."""
    field = Field(model)
    for key in path:
        field = child(field, key)
    return field


def allowed(field: Field) -> str:
    """Return the allowed values of ``field`` in words."""
    if len(field.models) > 1:
        tag = tag_of(field.models[0])[0]
        return f"a mapping with {tag}: {', '.join(field.choices)}"
    files = [item.kind for item in field.constraints if isinstance(item, FilePath)]
    words = files or [_words(option, found) for option, found in _options(field.annotation)]
    bounds = _bounds(field.constraints)
    unit = f" [{field.unit}]" if field.unit and not field.choices else ""
    return " or ".join(words) + (f" {bounds}" if bounds else "") + unit


def _options(annotation: Any, found: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the alternatives of a type, each with its annotated constraints."""
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
    files = [item.kind for item in found if isinstance(item, FilePath)]
    if option is type(None):
        text = "null"
    elif files:
        text = files[0]
    elif origin is Literal:
        text = ", ".join(str(choice) for choice in get_args(option))
    elif origin is tuple:
        item = Field(get_args(option)[0])
        inner, inner_found = next(_options(item.annotation))
        plural = _PLURAL.get(inner)
        text = "a list of " + (plural or f"({allowed(item)})")
        if plural and inner_found:
            text += f" {_bounds(inner_found)}"
    elif origin is dict:
        text = f"a mapping to {allowed(Field(get_args(option)[1]))}"
    elif isinstance(option, type) and issubclass(option, BaseModel):
        text = f"a mapping of {', '.join(option.model_fields)}"
    else:
        text = _PLAIN.get(option, "a value")
    return f"{text} {bounds}" if bounds else text


def _number(value: float) -> str:
    if value in (2**62, 2**63):
        return "2^62" if value == 2**62 else "2^63"
    whole = isinstance(value, float) and value.is_integer() and abs(value) >= 100
    return str(int(value) if whole else value)


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
