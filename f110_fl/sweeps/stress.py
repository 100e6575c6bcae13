"""Stress evaluations: one policy over grids of disturbances, from one YAML file.

``axes`` are lists of values, each tried alone; ``matrix`` are lists of which every combination is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from f110_fl.config.keys import KeyPath
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, did_you_mean, show
from f110_fl.loading.document import Document, parse_yaml, read_yaml
from f110_fl.loading.overrides import Override
from f110_fl.loading.scenarios import resolve_scenario
from f110_fl.runs.plan import on_asked_track
from f110_fl.sweeps.axes import NAMED, drawn_instead
from f110_fl.sweeps.reader import Reader, check_free

KEYS: Final = ("episodes", "threshold", "axes", "matrix")
THRESHOLD: Final = 0.9
EPISODES: Final = ("evaluation", "episodes")
WORDS: Final = f"a dotted key of the scenario, or one of {', '.join(NAMED)}"


@dataclass(frozen=True)
class Axis:
    """One axis: its name and its values, from the mildest to the harshest."""

    name: str
    values: tuple[float, ...]

    @property
    def unit(self) -> str:
        """The unit of its values; "" where they have none, or the scenario says it."""
        return NAMED[self.name].unit if self.name in NAMED else ""

    @property
    def about(self) -> str:
        """What its values are."""
        return NAMED[self.name].about if self.name in NAMED else self.name


@dataclass(frozen=True)
class Cell:
    """One cell: its values by axis, none where nothing is disturbed, and its scenario."""

    settings: dict[str, float]
    scenario: Scenario


@dataclass(frozen=True)
class Sweep:
    """All combinations of some axes, of which the last varies fastest."""

    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Stress:
    """A stress evaluation.

    Attributes:
        name: Its file's name.
        threshold: Success rate below which the policy counts as broken.
        nominal: The scenario itself.
        sweeps: Those of one axis each, then that of the matrix.
    """

    name: str
    threshold: float
    nominal: Cell
    sweeps: tuple[Sweep, ...]

    @property
    def cells(self) -> list[Cell]:
        """All cells, the nominal one first; some may be the same."""
        return [self.nominal, *(cell for sweep in self.sweeps for cell in sweep.cells)]


def load_stress(path: Path, scenario_file: Path, outside: Sequence[Override] = ()) -> Stress:
    """Read a stress evaluation and validate the scenario of every cell.

    Args:
        path: The YAML file.
        scenario_file: The scenario's, or a run's ``config.json``.
        outside: Settings of variables and flags, laid over the scenario.

    Raises:
        UserError: For any mistake in the files or the settings, in one line.
    """
    reader = _Reader(path, scenario_file, outside)
    axes, matrix = reader.alone(), reader.matrix()
    if not axes and not matrix:
        reader.refuse((), "neither axes nor matrix; allowed: one of them, or both")
    sweeps = [reader.sweep("axes", [axis]) for axis in axes]
    sweeps += [reader.sweep("matrix", matrix)] if matrix else []
    return Stress(path.stem, reader.threshold(), Cell({}, reader.nominal), tuple(sweeps))


def fingerprint(scenario: Scenario, files: Mapping[str, str]) -> str:
    """Return what tells whether two cells have the same episodes of the same policy.

    Args:
        scenario: The cell's.
        files: SHA-256 of the files that decide the episodes, the policy's among them.
    """
    known = {
        "env": scenario.evaluation_env.model_dump(mode="json"),
        "learners": {
            name: config.model_dump(mode="json", exclude={"initial"})
            for name, config in scenario.learners.items()
        },
        "seed": scenario.shared_seed,
        "episodes": scenario.evaluation.episodes,
        "files": sorted(files.values()),
    }
    text = json.dumps(known, sort_keys=True)
    for path, found in files.items():  # wherever they are
        text = text.replace(json.dumps(path), json.dumps(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Reader(Reader):
    """Reads the parts of a stress evaluation's file, for one scenario."""

    def __init__(self, path: Path, scenario_file: Path, outside: Sequence[Override]) -> None:
        super().__init__(path, "a stress evaluation's YAML file", KEYS)
        self._file, self._outside = scenario_file, outside
        self._base: Document = parse_yaml(read_yaml(scenario_file), str(scenario_file))
        self._own = self._episodes()
        self.nominal = self._resolved([])

    def _resolved(self, overrides: Sequence[Override]) -> Scenario:
        overrides = [*self._own, *self._outside, *overrides]
        scenario = resolve_scenario(self._base, self._file, overrides)
        return on_asked_track(scenario, self._outside)

    def _episodes(self) -> list[Override]:
        if "episodes" not in self.data:
            return []
        number, keys = self.data["episodes"], ("episodes",)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            self.refuse(keys, f"found {show(number)}; allowed: a whole number, from 1")
        return [Override(self.source(keys, keys), EPISODES, number)]

    def threshold(self) -> float:
        """Return the success rate below which the policy is broken."""
        value = self.data.get("threshold", THRESHOLD)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
            self.refuse(("threshold",), f"found {show(value)}; allowed: a number between 0 and 1")
        return float(value)

    def alone(self) -> list[Axis]:
        """Return the axes that are tried alone."""
        return self._axes("axes")

    def matrix(self) -> list[Axis]:
        """Return the axes whose values are combined."""
        return self._axes("matrix")

    def _axes(self, part: str) -> list[Axis]:
        found = []
        for name, values in self.values(part, "axis").items():
            if name not in NAMED and "." not in name:
                hint = did_you_mean(name, NAMED)
                self.refuse((part, name), f"unknown axis; allowed: {WORDS}{hint}")
            numbers = []
            for i, value in enumerate(values):
                keys = (part, name, i)
                if isinstance(value, bool) or not isinstance(value, int | float):
                    self.refuse(keys, f"found {show(value)}; allowed: a number")
                if value in numbers:
                    self.refuse(keys, f"{value:g} is there twice")
                numbers.append(value)
            found.append(Axis(name, tuple(numbers)))
        return found

    def sweep(self, part: str, axes: Sequence[Axis]) -> Sweep:
        """Return all combinations of some axes of a part of the file.

        Raises:
            UserError: If one cannot be, or an axis changes nothing.
        """
        choices = [self._choices(part, axis) for axis in axes]
        cells = []
        for chosen in product(*choices):
            settings = {axis.name: value for axis, (value, _) in zip(axes, chosen, strict=True)}
            overrides = [override for _, own in chosen for override in own]
            cells.append(Cell(settings, self._resolved(overrides)))
        return Sweep(tuple(axes), tuple(cells))

    def _choices(self, part: str, axis: Axis) -> list[tuple[float, list[Override]]]:
        """Return an axis's values with the settings that they stand for."""
        choices = []
        for i, value in enumerate(axis.values):
            keys: KeyPath = (part, axis.name, i)
            choices.append((value, self._overrides(axis.name, value, keys)))
        plain = self.nominal.evaluation_env
        if all(self._resolved(own).evaluation_env == plain for _, own in choices):
            self.refuse((part, axis.name), "changes nothing in the environment of evaluations")
        return choices

    def _overrides(self, name: str, value: float, keys: KeyPath) -> list[Override]:
        if name in NAMED:
            try:
                changes = NAMED[name].changes(self.nominal, value)
            except ValueError as error:
                self.refuse(keys, str(error))
            source = self.source((name,), keys)
            found = [Override(source, path, setting) for path, setting in changes]
        else:
            found = [self.override(name, value, keys)]
            drawn = drawn_instead(self.nominal, found[0].path)
            if drawn:
                self.refuse(keys, f"without effect: {drawn} draws it at each reset; set that null")
        for override in found:
            check_free(override, self._outside)
        return found


def check_sweeps(stress: Stress, most: int) -> None:
    """Refuse an evaluation of more cells than anybody would wait for.

    Raises:
        UserError: If there are more than ``most``.
    """
    count = len(stress.cells)
    if count > most:
        raise UserError(f"{stress.name}: {count} cells; allowed: at most {most}")
