"""What is wrong with a scenario, in one line that says where, what, and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from f110_fl.config.keys import KeyPath, join
from f110_fl.config.scenario import ClientSettingsError, Scenario
from f110_fl.errors import did_you_mean, show
from f110_fl.loading.document import Document
from f110_fl.loading.fields import Place, allowed, child, tag_of
from f110_fl.loading.overrides import Override, _merge


class _Problem(NamedTuple):
    """One thing that is wrong, where it is written, and what the models say of that place."""

    error: ErrorDetails
    path: KeyPath
    parent: Place
    place: Place
    order: tuple[int, int]  # line and column; (0, n) if override n brought it


def _errors(data: dict[str, Any]) -> list[ErrorDetails]:
    """Return what is wrong with ``data``, without errors that only follow from others."""
    try:
        Scenario.model_validate(data, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False)
        locs = [item["loc"] for item in found]
        return [
            item
            for item in found
            if item["type"] != "too_short"
            or not any(loc[:-1][: len(item["loc"])] == item["loc"] for loc in locs)
        ]
    return []


def _problems(document: Document, overrides: Sequence[Override]) -> list[_Problem]:
    problems: dict[object, _Problem] = {}
    for error in _errors(_merge(cast("dict[str, Any]", document.data), overrides)):
        path, parent, place = _locate(error)
        cause = _cause(error)
        if isinstance(cause, ClientSettingsError):
            path = cause.path
        order: tuple[int, int] = document.mark(path)
        for number, override in enumerate(overrides):
            made_it = error["type"] != "value_error" and _made(path, override, document)
            if path[: len(override.path)] == override.path or made_it:
                order = (0, number)
        # A mistake behind an alias is one mistake, however often the alias is used.
        key = (order, error["type"], path[-1:], str(error.get("ctx")))
        problems.setdefault(key, _Problem(error, path, parent, place, order))
    return list(problems.values())


def _made(path: KeyPath, override: Override, document: Document) -> bool:
    """Whether an override made ``path``, or the mapping around it, on the way to its own key."""
    absent = (path[:n] for n in range(len(path) + 1) if path[:n] not in document.marks)
    first = next(absent, None)
    near = first is not None and len(first) >= len(path) - 1
    return near and override.path[: len(first or ())] == first


def _locate(error: ErrorDetails) -> tuple[KeyPath, Place, Place]:
    """Return the keys, the parent and the place of what pydantic found.

    Pydantic puts the tag of a union's chosen member between the keys; it is taken out here.
    """
    path: KeyPath = ()
    parent = place = Place(Scenario)
    for key in error["loc"]:
        models: tuple[type[BaseModel], ...] = place.models if len(place.models) > 1 else ()
        chosen = [model for model in models if tag_of(model)[1] == key]
        if chosen:
            place = Place(chosen[0])
        else:
            parent, place, path = place, child(place, key), (*path, key)
    if error["type"].startswith("union_tag"):
        path = (*path, tag_of(place.models[0])[0])
    return path, parent, place


def _describe(
    problem: _Problem, file: Path, document: Document, overrides: Sequence[Override]
) -> str:
    """Return the line that tells the user about ``problem``."""
    where, what = join(problem.path), _what(problem)
    at = f"{file}:{document.mark(problem.path).line}"
    line, number = problem.order
    if line == 0:
        override = overrides[number]
        if not override.allowed and problem.path == override.path:
            return f"{override.name}: {what}"
        if problem.path != override.path or problem.error["type"] == "value_error":
            return f"{override.name}: {where}: {what}"
        return f"{override.name}: allowed: {override.allowed}" + _nearest(
            override.text, problem.place.choices
        )
    blamed = _blamed(problem, document, overrides)
    names = ", ".join(dict.fromkeys(override.name for override in blamed))
    return ": ".join(part for part in (names, at, where, what) if part)


def _cause(error: ErrorDetails) -> object:
    """Return the exception behind what one of the models' own rules says."""
    return error.get("ctx", {}).get("error", error["msg"])


def _what(problem: _Problem) -> str:
    """Return what was found and what is allowed."""
    error, place, kind = problem.error, problem.place, problem.error["type"]
    if kind == "value_error":
        cause = _cause(error)
        if not isinstance(cause, ClientSettingsError) or cause.error is None:
            return str(cause)
        inner = _Problem(cause.error, *_locate(cause.error), problem.order)
        where = "" if len(cause.path) > 2 else f"{join(inner.path)}: "  # else the key says it
        return f"client {cause.client_id}: {where}{_what(inner)}"
    if kind == "extra_forbidden":
        names = sorted(problem.parent.models[0].model_fields)
        hint = did_you_mean(str(problem.path[-1]), names)
        return f"unknown key; allowed: {', '.join(names)}{hint}"
    if kind == "missing":
        return f"is missing; allowed: {allowed(place)}"
    if kind == "union_tag_not_found":
        return f"is missing; allowed: {', '.join(place.choices)}"
    found = error["input"]
    if kind == "union_tag_invalid":
        found = found[problem.path[-1]]
        return f"found {show(found)}; allowed: {', '.join(place.choices)}" + _nearest(
            found, place.choices
        )
    return f"found {show(found)}; allowed: {allowed(place)}" + _nearest(found, place.choices)


def _nearest(found: object, choices: Sequence[str]) -> str:
    return did_you_mean(found, choices) if isinstance(found, str) else ""


def _blamed(problem: _Problem, document: Document, overrides: Sequence[Override]) -> list[Override]:
    """Return the overrides without which a whole model's rule would not be broken."""
    if problem.error["type"] != "value_error":
        return []
    data = cast("dict[str, Any]", document.data)
    depth = len(problem.path)
    near = [override for override in overrides if override.path[:depth] == problem.path]

    def breaks(others: list[Override]) -> bool:
        found = [(e["loc"], e["type"]) for e in _errors(_merge(data, others))]
        return (problem.error["loc"], problem.error["type"]) in found

    blamed = [
        override
        for override in near
        if not breaks([other for other in overrides if other.source != override.source])
    ]
    return blamed or (near if not breaks([]) else [])
