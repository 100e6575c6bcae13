"""Read a scenario from YAML, with settings from outside laid over it.

Whatever is wrong is said in one line: ``FILE:LINE: key.path: found ...; allowed: ...``, or,
if a variable or a flag brought the value, ``NAME='value': ...; allowed: ...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from f110_fl.errors import UserError, did_you_mean, show
from f110_fl.fields import Place, allowed, child, tag_of
from f110_fl.files import find_file
from f110_fl.key_path import KeyPath, join, laid
from f110_fl.overrides import Override, SeedPlan
from f110_fl.scenario import Scenario
from f110_fl.vary import ClientSettingsError
from f110_fl.yaml_tree import Document, parse_yaml


def load_scenario(path: Path, overrides: Sequence[Override] = ()) -> Scenario:
    """Read, override and validate a scenario.

    Validation is strict: ``"3"``, ``3.0`` and ``true`` are no whole numbers. Files of tracks,
    racing lines and policies are relative to the scenario's folder in YAML, and absolute in the
    result.

    Args:
        path: The YAML file.
        overrides: Settings laid over the file's; of two for the same key, the later wins,
            so command-line values follow those of the environment.

    Returns:
        The scenario.

    Raises:
        UserError: For anything wrong with the file or the overrides, in one line.
    """
    return resolve_scenario(parse_yaml(read_yaml(path), str(path)), path, overrides)


def resolve_scenario(document: Document, path: Path, overrides: Sequence[Override]) -> Scenario:
    """Override and validate a scenario that is read already; see :func:`load_scenario`."""
    last = {override.path: number for number, override in enumerate(overrides)}
    overrides = [overrides[number] for number in sorted(last.values())]
    if not isinstance(document.data, dict):
        found = "an empty file" if document.data is None else show(document.data)
        needed = allowed(Place(Scenario))
        raise UserError(f"{path}:{document.mark(()).line}: found {found}; allowed: {needed}")
    problems = _problems(document, overrides)
    if problems:
        problems.sort(key=lambda problem: problem.order)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(_describe(problems[0], path, document, overrides) + more)
    scenario = Scenario.model_validate(_merge(document.data, overrides), strict=True)
    return _with_files(scenario, path, document, overrides)


def dump_scenario(scenario: Scenario) -> str:
    """Return every setting of a scenario, defaults included, as JSON text."""
    return scenario.model_dump_json(indent=2) + "\n"


def parse_resolved(text: str, name: str = "config.json") -> Scenario:
    """Return the scenario that :func:`dump_scenario` wrote; the exact inverse of it.

    Args:
        text: The JSON text.
        name: Where it comes from, for messages.

    Raises:
        UserError: If it is no scenario, in one line.
    """
    try:
        return Scenario.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = join(_locate(first)[0])
        message = f"{name}: {where}: {first['msg']}" if where else f"{name}: {first['msg']}"
        raise UserError(message) from None


class _Problem(NamedTuple):
    """One thing that is wrong, where it is written, and what the models say of that place."""

    error: ErrorDetails
    path: KeyPath
    parent: Place
    place: Place
    order: tuple[int, int]  # line and column; (0, n) if override n brought it


def read_yaml(path: Path, kind: str = "a scenario's YAML file") -> str:
    """Return the text of a YAML file.

    Args:
        path: The file.
        kind: What it should be, for messages.

    Raises:
        UserError: If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; allowed: {kind}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{str(path)!r}: cannot be read: {reason}") from None


def _merge(data: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """Return a copy of a file's settings with ``overrides`` laid over it."""
    merged = data
    # Seeds are counted out for the clients and from the seed that the others leave.
    for override in sorted(overrides, key=lambda item: isinstance(item.value, SeedPlan)):
        plan = override.value
        value = plan.seeds(merged) if isinstance(plan, SeedPlan) else plan
        try:
            merged = cast("dict[str, Any]", laid(merged, override.path, value))
        except LookupError as error:
            if not override.allowed:  # else the file is wrong here, which validation will say
                raise UserError(f"{override.name}: {error.args[0]}") from None
    return merged


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


_FILES: Final = {
    "raceline": "a CSV file",
    "checkpoint": "a safetensors file",
    "file": "a map's YAML file or a centre line's CSV file",
}


def _file_settings(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield where settings name files that they need, and what kind they are."""
    items = enumerate(data) if isinstance(data, tuple) else data.items()
    for key, value in items:
        # What clients differ in is below a dotted key, one value a client.
        name = key if isinstance(key, str) else path[-1]
        name = name.rpartition(".")[2] if isinstance(name, str) else name
        if isinstance(value, dict | tuple):
            yield from _file_settings(value, (*path, key))
        elif name in _FILES and isinstance(value, str):
            yield (*path, key), _FILES[name]


def _with_files(
    scenario: Scenario, path: Path, document: Document, overrides: Sequence[Override]
) -> Scenario:
    """Make the names of files absolute, and check that they are there."""
    data: Any = scenario.model_dump(exclude={"learners", "wandb"})
    for place, kind in _file_settings(data):
        name: Any = data
        for key in place:
            name = name[key]
        file = find_file(name, path.parent)
        if file is None:
            given = [o for o in overrides if o.path == place[: len(o.path)]]
            at = given[-1].name if given else f"{path}:{document.mark(place).line}"
            raise UserError(
                f"{at}: {join(place)}: found {name!r}, no such file in "
                f"{str(path.parent.resolve())!r}; allowed: {kind}"
            )
        data = laid(data, place, str(file))
    return Scenario.model_validate(scenario.model_dump() | data)
