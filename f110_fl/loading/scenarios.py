"""Read a scenario from YAML, with settings from outside laid over it.

Whatever is wrong is said in one line: ``FILE:LINE: key.path: found ...; allowed: ...``, or,
if a variable or a flag brought the value, ``NAME='value': ...; allowed: ...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from f110_fl.config.keys import KeyPath, join, laid
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, show
from f110_fl.files import find_file
from f110_fl.loading.diagnostics import _describe, _locate, _problems
from f110_fl.loading.document import Document, parse_yaml, read_yaml
from f110_fl.loading.fields import Place, allowed
from f110_fl.loading.overrides import Override, _merge


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
