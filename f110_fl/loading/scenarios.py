"""Read a scenario from YAML, with settings from outside laid over it.

A mistake is reported in one line: ``FILE:LINE: key.path: found ...; allowed: ...`` or, for the
value of a variable or a flag, ``NAME='value': ...; allowed: ...``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, show
from f110_fl.loading.diagnostics import explain, explain_resolved
from f110_fl.loading.document import Document, parse_yaml, read_yaml
from f110_fl.loading.fields import Field, allowed
from f110_fl.loading.overrides import Override, lay_over

FORMAT: Final = 2  # of resolved scenarios; increased whenever a key changes its name or meaning


def load_scenario(path: Path | str, overrides: Iterable[Override] = ()) -> Scenario:
    """Read, override and validate a scenario; run.py begins with this, and so can any program.

    The result is frozen and has every setting, defaults included: ``scenario.env`` is what
    `sim.envs` builds environments from, ``scenario.learners["car_0"].discount`` what a learner
    learns with. `run.py --set KEY=VALUE` is ``set_overrides(["KEY=VALUE"])`` here::

        from f110_fl.loading.overrides import set_overrides

        scenario = load_scenario("scenarios/gaplock_ppo.yaml", set_overrides(["env.max_steps=60"]))

    ``FED_*`` variables are laid over nothing here: `f110_fl.loading.flags.environment_overrides`
    reads them. Validation is strict: ``"3"``, ``3.0`` and ``true`` are not whole numbers. Files of
    tracks, racing lines and policies are relative to the scenario's folder in YAML, and absolute in
    the result, which can be used from any working directory.

    Args:
        path: The YAML file, or the ``config.json`` of a run.
        overrides: Settings laid over the file's; of two for the same key, the later wins,
            so command-line values follow those of the environment.

    Returns:
        The scenario.

    Raises:
        UserError: For anything wrong with the file or the overrides, in one line.
    """
    path = Path(path)
    return resolve_scenario(parse_yaml(read_yaml(path), str(path)), path, overrides)


def resolve_scenario(document: Document, path: Path, overrides: Iterable[Override]) -> Scenario:
    """Override and validate a scenario that has been read; see :func:`load_scenario`."""
    if not isinstance(document.data, dict):
        found = "an empty file" if document.data is None else show(document.data)
        needed = allowed(Field(Scenario))
        raise UserError(f"{path}:{document.mark(()).line}: found {found}; allowed: {needed}")
    # A run's config.json is its scenario, too.
    version = document.data.get("format")
    if version is not None and version != FORMAT:
        raise UserError(_other_format(f"{path}:{document.mark(('format',)).line}", version))
    # Keys x-... are the file's own, for YAML's anchors.
    others = ("format", *(key for key in document.data if key.startswith("x-")))
    own = {key: value for key, value in document.data.items() if key not in others}
    data, taken = lay_over(own, overrides)
    try:
        return Scenario.model_validate(data, strict=True, context=path.parent)
    except ValidationError as error:
        raise UserError(explain(error, path, document, taken)) from None


def dump_scenario(scenario: Scenario) -> str:
    """Return every setting of a scenario, defaults included, as JSON text."""
    data = {"format": FORMAT, **scenario.model_dump(mode="json")}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def read_resolved(path: Path) -> Scenario:
    """Return the scenario in a run's ``config.json``.

    Raises:
        UserError: If the file cannot be read, or is no scenario of this format, in one line.
    """
    return parse_resolved(read_yaml(path, "a run's config.json"), str(path))


def parse_resolved(text: str, name: str = "config.json") -> Scenario:
    """Return the scenario that :func:`dump_scenario` wrote, its exact inverse.

    Raises:
        UserError: If it is not a scenario of this format, in one line.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{name}: found {show(data)}; allowed: a resolved scenario")
    version = data.pop("format", None)
    if version != FORMAT:
        raise UserError(_other_format(name, version))
    try:
        return Scenario.model_validate(_with_tuples(data), strict=True)
    except ValidationError as error:
        raise UserError(f"{name}: {explain_resolved(error)}") from None


def _other_format(name: str, version: object) -> str:
    found = "no format number" if version is None else f"format {version}"
    return (
        f"{name}: {found}, written by another version of this program; this one reads format "
        f"{FORMAT}: start a new run, or go on with the version that began it"
    )


def _with_tuples(data: Any) -> Any:
    """Return JSON's values with tuples for lists, as the YAML reader returns them."""
    if isinstance(data, dict):
        return {key: _with_tuples(value) for key, value in data.items()}
    return tuple(map(_with_tuples, data)) if isinstance(data, list) else data
