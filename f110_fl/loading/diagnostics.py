"""Explains in one line what is wrong with a scenario or a league, where, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from f110_fl.config.keys import KeyPath, join
from f110_fl.config.scenario import ClientSettingsError, Scenario
from f110_fl.errors import did_you_mean, show
from f110_fl.loading.document import Document
from f110_fl.loading.fields import Field, allowed, child, tag_of
from f110_fl.loading.overrides import Override


class _Problem(NamedTuple):
    """One mistake, and the models' description of its field."""

    error: ErrorDetails
    path: KeyPath
    parent: Field
    field: Field

    @property
    def by_validator(self) -> bool:
        """Whether a validator of the models raised it, rather than a field's type or bounds."""
        return self.error["type"] == "value_error"

    @property
    def cause(self) -> object:
        """The exception that the validator raised."""
        return self.error.get("ctx", {}).get("error", self.error["msg"])


def explain(
    error: ValidationError,
    file: Path,
    document: Document,
    overrides: Sequence[Override],
    model: type[BaseModel] = Scenario,
) -> str:
    """Return the line that tells the user about the first of a file's mistakes.

    Args:
        error: All of them.
        file: The file.
        document: What is in it.
        overrides: Settings that were laid over it.
        model: What it was read as.
    """
    found: dict[object, tuple[tuple[int, int], _Problem]] = {}
    for details in _causes(error):
        problem = _problem(details, model)
        order = _order(problem, document, overrides)
        # A mistake behind an alias is one mistake, however often the alias is used.
        key = (order, details["type"], problem.path[-1:], str(details.get("ctx")))
        found.setdefault(key, (order, problem))
    (line, number), problem = min(found.values(), key=lambda item: item[0])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    if line == 0:
        return _describe_override(problem, overrides[number]) + more
    broke = dict.fromkeys(override.name for override in overrides if _broke(override, problem))
    parts = (", ".join(broke), f"{file}:{line}", join(problem.path), _what(problem))
    return ": ".join(part for part in parts if part) + more


def explain_resolved(error: ValidationError) -> str:
    """Return the line about the first mistake in a resolved scenario."""
    problem = _problem(error.errors(include_url=False)[0])
    where = f"{join(problem.path)}: " if problem.path else ""
    absent = problem.error["type"] == "union_tag_invalid"  # it was a known word where it came from
    return where + _what(problem) + ("; is the plugin with it installed here?" if absent else "")


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors, without those that only follow from others."""
    found = error.errors(include_url=False)
    locs = [item["loc"] for item in found]
    return [
        item
        for item in found
        if item["type"] != "too_short"
        or not any(loc[:-1][: len(item["loc"])] == item["loc"] for loc in locs)
    ]


def _problem(error: ErrorDetails, model: type[BaseModel] = Scenario) -> _Problem:
    """Return an error with its keys, its parent and its field.

    Pydantic puts the tag of a union's chosen member between the keys; it is removed here.
    """
    path: KeyPath = ()
    parent = field = Field(model)
    for key in error["loc"]:
        models: tuple[type[BaseModel], ...] = field.models if len(field.models) > 1 else ()
        chosen = [model for model in models if tag_of(model)[1] == key]
        if chosen:
            field = Field(chosen[0])
        elif models and key in field.tags:
            field = field.tagged(key)
        elif key not in field.tags:
            parent, field, path = field, child(field, key), (*path, key)
    if error["type"].startswith("union_tag"):
        path = (*path, tag_of(field.models[0])[0])
    problem = _Problem(error, path, parent, field)
    cause = problem.cause
    return problem._replace(path=cause.path) if isinstance(cause, ClientSettingsError) else problem


def _order(problem: _Problem, document: Document, overrides: Sequence[Override]) -> tuple[int, int]:
    """Return line and column of a mistake; (0, n) if it comes from override n."""
    order: tuple[int, int] = document.mark(problem.path)
    for number, override in enumerate(overrides):
        if not problem.by_validator and _made(problem.path, override, document):
            order = (0, number)
    for number, override in enumerate(overrides):  # whoever brought it rather than what is near
        if problem.path[: len(override.path)] == override.path:
            order = (0, number)
    return order


def _made(path: KeyPath, override: Override, document: Document) -> bool:
    """Return whether an override created ``path``, or its mapping, on the way to its own key."""
    absent = (path[:n] for n in range(len(path) + 1) if path[:n] not in document.marks)
    first = next(absent, None)
    near = first is not None and len(first) >= len(path) - 1
    return near and override.path[: len(first or ())] == first


def _broke(override: Override, problem: _Problem) -> bool:
    """Return whether a validator's message names the key of an override; see ``Scenario``."""
    depth = len(problem.path)
    if not problem.by_validator or override.path[:depth] != problem.path:
        return False
    key = re.escape(join(override.path[depth:]))
    return re.search(rf"(?<![\w.]){key}(?!\w)", str(problem.cause)) is not None


def _describe_override(problem: _Problem, override: Override) -> str:
    """Return the line about the value of an override."""
    if problem.path != override.path or problem.by_validator:
        return f"{override.name}: {join(problem.path)}: {_what(problem)}"
    if not override.allowed:
        return f"{override.name}: {_what(problem)}"
    near = _nearest(override.text, problem.field.choices)
    return f"{override.name}: allowed: {override.allowed}{near}"


def _what(problem: _Problem) -> str:
    """Return the value that was found and what is allowed."""
    error, field, kind = problem.error, problem.field, problem.error["type"]
    if problem.by_validator:
        cause = problem.cause
        if not isinstance(cause, ClientSettingsError) or cause.error is None:
            return str(cause)
        inner = _problem(cause.error)
        where = "" if len(cause.path) > 2 else f"{join(inner.path)}: "  # else the key says it
        return f"client {cause.client_id}: {where}{_what(inner)}"
    if kind == "extra_forbidden":
        names = sorted(problem.parent.models[0].model_fields)
        hint = did_you_mean(str(problem.path[-1]), names)
        return f"unknown key; allowed: {', '.join(names)}{hint}"
    if kind == "missing":
        return f"is missing; allowed: {allowed(field)}"
    if kind == "union_tag_not_found":
        return f"is missing; allowed: {', '.join(field.choices)}"
    found = error["input"]
    if kind == "union_tag_invalid":
        found, words = found[problem.path[-1]], ", ".join(field.choices)
    else:
        words = allowed(field)
    return f"found {show(found)}; allowed: {words}{_nearest(found, field.choices)}"


def _nearest(found: object, choices: Sequence[str]) -> str:
    return did_you_mean(found, choices) if isinstance(found, str) else ""
