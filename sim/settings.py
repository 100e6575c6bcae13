"""The base of every settings model; `sim.config` has the simulator's.

It is a module of its own so that plugins can import it while `sim.config` imports them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    import yaml


class Config(BaseModel):
    """Base of every settings model: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def numbers(config: Config) -> dict[str, float]:
    """Those of the settings that are numbers or truth values, by name, for `sim.native.record`."""
    return {name: value for name, value in config if isinstance(value, int | float)}


@dataclass(frozen=True)
class FilePath:
    """Marks a text as the name of a file that must be there: ``Annotated[str, FilePath(...)]``.

    Where validation has a folder as its context, the name is relative to that folder, and the
    result absolute. Without one, as in a resolved scenario, the name is left as it is.

    Args:
        kind: What kind of file it is, for messages: ``a CSV file``.
        holding: It may also be a directory that holds a file of this name.
    """

    kind: str
    holding: str = ""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it."""
        return core_schema.with_info_after_validator_function(
            self._resolve, core_schema.str_schema(min_length=1)
        )

    def _resolve(self, name: str, info: ValidationInfo) -> str:
        folder = info.context
        if not isinstance(folder, Path):
            return name
        file = find_file(name, folder)
        if file is None and self.holding:
            held = find_file(str(Path(name) / self.holding), folder)
            file = held and held.parent
        if file is None:
            raise ValueError(
                f"found {name!r}, no such file in {str(folder.resolve())!r}; allowed: {self.kind}"
            )
        return str(file)


def find_file(name: str, folder: Path) -> Path | None:
    """Return the absolute path of a file named relative to ``folder``, None if there is none."""
    try:
        file = (folder / name).resolve()
        return file if file.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, links in a circle
        return None


def expanded_size(node: yaml.Node) -> int:
    """Return how many values a composed YAML node has when each alias is written out.

    Nine levels of nine aliases each, a few hundred bytes, are 4e8 values. Takes time in
    proportion to the file. A node that contains itself counts once.
    """
    sizes: dict[int, int] = {}
    pending: list[tuple[yaml.Node, bool]] = [(node, False)]
    while pending:  # depth first, without recursion
        found, is_done = pending.pop()
        value = found.value
        parts: list[yaml.Node] = []
        if isinstance(value, list):
            parts = [
                p for entry in value for p in (entry if isinstance(entry, tuple) else (entry,))
            ]
        if is_done:
            sizes[id(found)] = 1 + sum(sizes[id(part)] for part in parts)
        elif id(found) not in sizes:
            sizes[id(found)] = 1
            pending.append((found, True))
            pending += [(part, False) for part in parts]
    return sizes[id(node)]
