"""Grids: many runs of one scenario with different settings, from one YAML file.

``base`` is a scenario, ``matrix`` lists values by dotted key, ``runs`` lists sets of such values;
every entry of ``runs`` is combined with every cell of the matrix.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

from f110_fl.config.keys import KeyPath, join
from f110_fl.config.scenario import Scenario, WandbConfig
from f110_fl.errors import UserError, show
from f110_fl.loading.document import Document, parse_yaml, read_yaml
from f110_fl.loading.overrides import Override, refuse_varied
from f110_fl.loading.scenarios import resolve_scenario
from f110_fl.loading.texts import literal
from f110_fl.sweeps.reader import Reader, check_free

KEYS: Final = ("base", "matrix", "runs")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
MAX_NAME: Final = 80  # characters of a name made of values; a longer one is replaced by a number

# Names in a grid's directory that no run may have.
GRID: Final = "grid.json"
RESERVED: Final = (GRID, "results.json", "results.csv", "logs", "lock", "clients", "config.json")


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    name: str  # also the name of its directory
    settings: dict[str, Any]  # the grid's values for it, by dotted key
    scenario: Scenario


@dataclass(frozen=True)
class Grid:
    """All runs of a grid."""

    name: str
    root: Path
    cells: tuple[Cell, ...]
    template: str = ""  # that its root was made from

    def at(self, root: Path) -> Grid:
        """Return the grid with its runs in another directory."""
        cells = tuple(_moved(cell, root) for cell in self.cells)
        return replace(self, root=root, cells=cells)


class _Run(NamedTuple):
    """An entry of ``runs``."""

    name: str
    overrides: list[Override]


def load_grid(path: Path, outside: Sequence[Override] = ()) -> Grid:
    """Read a grid and validate every run of it.

    Args:
        path: The YAML file.
        outside: Settings of variables and flags, laid over ``base``.

    Returns:
        The grid, its runs in the order of ``runs`` and, within each, of the matrix, whose last
        key varies fastest.

    Raises:
        UserError: For any mistake in the file, a run or the settings, in one line.
    """
    reader = _Reader(path, "a grid's YAML file", KEYS)
    base, scenario_file, own = reader.base()
    matrix, runs = reader.matrix(), reader.runs()
    if not matrix and not runs:
        reader.refuse((), "neither matrix nor runs; allowed: one of them, or both")
    for override in (o for options in (*matrix, *(r.overrides for r in runs)) for o in options):
        check_free(override, outside)
    cells: list[Cell] = []
    scenarios: dict[str, Scenario] = {}
    for run, options in product(runs or [_Run("", [])], product(*matrix)):
        chosen = [*run.overrides, *options]
        overrides = [*own, *chosen, *outside]
        scenario = resolve_scenario(base, scenario_file, overrides)
        refuse_varied(overrides, scenario)
        name = run.name or _name(run.overrides, len(cells))
        name = "_".join(part for part in (name, _name(options, len(cells))) if part)
        if name in scenarios:
            reader.refuse((), f"two runs are called {name!r}; give the runs names")
        scenarios[name] = scenario
        cells.append(Cell(name, {join(o.path): o.value for o in chosen}, scenario))
    words = {"name": path.stem, "time": time.strftime("%Y%m%d-%H%M%S")}
    template = cells[0].scenario.federated.root
    root = Path(template.format_map(words)).expanduser().absolute()
    placed = tuple(_placed(cell, path.stem, root) for cell in cells)
    return Grid(path.stem, root, placed, template)


def write_grid(grid: Grid) -> str:
    """Return the text of ``grid.json``: the runs' names and the grid's values for each."""
    runs = [{"name": cell.name, "settings": cell.settings} for cell in grid.cells]
    return json.dumps({"name": grid.name, "runs": runs}, indent=2) + "\n"


def read_grid(root: Path) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the grid's name, and its values for each run by the run's name.

    Raises:
        UserError: If the file is not one of :func:`write_grid`.
    """
    file = root / GRID
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return str(data["name"]), {str(run["name"]): dict(run["settings"]) for run in data["runs"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: not a grid's file: {error}") from None


def _name(overrides: Sequence[Override], number: int) -> str:
    """Return a name made of keys and values, or ``run_007`` if that would be too long."""
    parts = []
    for override in overrides:
        value = override.value
        text = value if isinstance(value, str) else json.dumps(value)
        text = re.sub(r"[^A-Za-z0-9.+-]+", "-", text)
        if not isinstance(value, int | float):
            text = text.strip("-")
        parts.append(f"{override.path[-1]}-{text}")
    name = "_".join(parts)
    return name if len(name) <= MAX_NAME else f"run_{number:03d}"


def _placed(cell: Cell, group: str, root: Path) -> Cell:
    """Return a cell with a directory of its own, and with its W&B runs named after it."""
    scenario = cell.scenario
    wandb: dict[str, Any] = {"prefix": f"{scenario.wandb.prefix}{cell.name}-"}
    if scenario.wandb.group_template == WandbConfig.model_fields["group_template"].default:
        wandb["group_template"] = literal(group)
    recorded = scenario.wandb.model_copy(update=wandb)
    return _moved(replace(cell, scenario=scenario.model_copy(update={"wandb": recorded})), root)


def _moved(cell: Cell, root: Path) -> Cell:
    """Return a cell whose run is in a grid's directory."""
    own = {"root": literal(str(root / cell.name))}
    federated = cell.scenario.federated.model_copy(update=own)
    return replace(cell, scenario=cell.scenario.model_copy(update={"federated": federated}))


class _Reader(Reader):
    """Reads the parts of a grid's file."""

    def base(self) -> tuple[Document, Path, list[Override]]:
        """Return the scenario, its file, and the settings laid over it."""
        data = self.data.get("base")
        if isinstance(data, str):
            return (*self._file(data, ("base",)), [])
        if not isinstance(data, dict):
            words = "a scenario's file, or a mapping"
            found = "found " + show(data) if "base" in self.data else "is missing"
            self.refuse(("base",), f"{found}; allowed: {words}")
        if "scenario" not in data:
            marks = self.document.marks.items()
            own = {path[1:]: mark for path, mark in marks if path[:1] == ("base",)}
            return Document(data, own), self.path, []
        name = data["scenario"]
        if not isinstance(name, str):
            keys = ("base", "scenario")
            self.refuse(keys, f"found {show(name)}; allowed: a scenario's file")
        others = {key: value for key, value in data.items() if key != "scenario"}
        return (*self._file(name, ("base", "scenario")), self.settings(others, ("base",)))

    def _file(self, name: str, keys: KeyPath) -> tuple[Document, Path]:
        path = self.path.parent / name
        if not path.is_file():
            folder = str(self.path.parent.resolve())
            self.refuse(keys, f"found {name!r}, no such file in {folder!r}; allowed: a scenario's")
        return parse_yaml(read_yaml(path), str(path)), path

    def matrix(self) -> list[list[Override]]:
        """Return the alternative settings of each key of the matrix."""
        return [
            [self.override(key, value, ("matrix", key, i)) for i, value in enumerate(values)]
            for key, values in self.values("matrix").items()
        ]

    def runs(self) -> list[_Run]:
        """Return the entries of ``runs``."""
        data, varied = self.data.get("runs", ()), self.data.get("matrix") or {}
        if not isinstance(data, tuple):
            self.refuse(("runs",), f"found {show(data)}; allowed: a list of mappings")
        runs = []
        for i, entry in enumerate(data):
            keys: KeyPath = ("runs", i)
            if not isinstance(entry, dict) or not entry:
                self.refuse(keys, f"found {show(entry)}; allowed: a mapping of name, dotted keys")
            name = entry.get("name", "")
            if "name" in entry and not (isinstance(name, str) and NAME.fullmatch(name)):
                words = "text of letters, digits and _.-, the first a letter or digit"
                self.refuse((*keys, "name"), f"found {show(name)}; allowed: {words}")
            if name in RESERVED:
                self.refuse((*keys, "name"), f"{name!r} is a name of the grid's own files")
            for key in entry:
                if key in varied:
                    self.refuse((*keys, key), "the matrix sets it too; leave it out of one")
            settings = {key: value for key, value in entry.items() if key != "name"}
            runs.append(_Run(name, self.settings(settings, keys)))
        return runs
