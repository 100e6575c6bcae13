"""The files that a run depends on besides its scenario, known by their SHA-256.

They are maps with their images and lines, centre lines, racing lines, the policies of scripted
cars, and a league whose entries are met. Not the policies that learners start from: what a run has
saved wins over them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_file, write_atomic
from f110_fl.loading.document import parse_yaml, read_yaml
from f110_fl.loading.leagues import load_league
from f110_fl.rundir import RunDir
from sim.config.tracks import IMAGES, LONE_LINE

STARTED_FROM: Final = "initial"


def record_inputs(scenario: Scenario, rundir: RunDir) -> None:
    """Write ``inputs.json``: the SHA-256 of each file that the run depends on, by its path.

    Raises:
        OSError: If it cannot be written.
    """
    write_atomic(rundir.inputs, json.dumps(digests(scenario), indent=2) + "\n")


def digests(scenario: Scenario) -> dict[str, str]:
    """Return the SHA-256 of each file that a scenario depends on, by its path."""
    return {str(path): digest(path) for path in sorted(set(_inputs(scenario)))}


def check_inputs(rundir: RunDir) -> None:
    """Refuse to go on with other files than the run began with.

    A run without ``inputs.json``, which has not begun or is of an older version, passes.

    Raises:
        UserError: For the first file that changed or is gone.
    """
    if not is_file(rundir.inputs):
        return
    try:
        known = dict(json.loads(rundir.inputs.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{rundir.inputs}: cannot be read: {error}") from None
    for name, expected in known.items():
        found = digest(Path(name))
        if found != expected:
            what = "changed" if found else "is gone"
            raise UserError(
                f"{name}: {what} since the run began (SHA-256 in {rundir.inputs}); bring it back, "
                "start a new run, or go on all the same with --changed-files"
            )


def digest(path: Path) -> str:
    """Return a file's SHA-256; "" if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _inputs(scenario: Scenario) -> Iterator[Path]:
    """Yield the files that a resolved scenario, in which they are absolute, or its maps name."""
    for text in _texts(scenario.model_dump(mode="json", exclude={"federated": {"root"}})):
        path = Path(text)
        if path.is_absolute() and is_file(path):
            yield path
            if path.suffix in (".yaml", ".yml"):
                yield from _of_map(path)
    if scenario.league_opponents is not None:
        yield from _of_league(Path(scenario.league_opponents[1].league))


def _of_league(path: Path) -> Iterator[Path]:
    """Yield the policies and lines of a league's entries; none if it cannot be read."""
    with suppress(UserError):
        for text in _texts(load_league(path).model_dump(mode="json", include={"entries"})):
            if Path(text).is_absolute() and is_file(Path(text)):
                yield Path(text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key != STARTED_FROM:
                yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


def _of_map(path: Path) -> Iterator[Path]:
    """Yield a map's image, and the lines beside it that may be the map's.

    What would be read if one of them came or went is `sim.tracks.kinds.rosmap`'s rule; here it is
    enough that every file that is read is among them.
    """
    with suppress(UserError, OSError, ValueError):
        data = parse_yaml(read_yaml(path), str(path)).data
        image = data.get("image") if isinstance(data, dict) else None
        if isinstance(image, str):
            named = path.parent / image
            others = [named.with_suffix(suffix) for suffix in IMAGES if named.name.strip(".")]
            yield from filter(is_file, [named, *others])
    with suppress(OSError):
        stem = path.stem.removesuffix("_map").lower()
        for file in sorted(path.parent.iterdir()):
            name = file.name.lower()
            mine = name.startswith(stem) or name == LONE_LINE
            if mine and name.endswith(".csv") and is_file(file):
                yield file
