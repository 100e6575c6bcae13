"""Settings from outside a scenario's file, laid over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from f110_fl.config.keys import KeyPath, join, laid, overlaps, parse_key
from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml

if TYPE_CHECKING:
    from f110_fl.config.scenario import Scenario

EXAMPLE: Final = "learners.car_0.discount=0.98"
Change: TypeAlias = Callable[[object], object]


@dataclass(frozen=True)
class Override:
    """One setting from outside the scenario's file."""

    source: str  # the variable or flag
    path: KeyPath  # the keys, and indices of lists, of the setting
    value: object  # or a `Change`, which is called with the present value or None
    text: str = ""  # the user's text; "" for a flag without a value
    allowed: str = ""  # the allowed values in words; "": as the models describe them

    @property
    def name(self) -> str:
        """Source and text, as quoted in messages."""
        return f"{self.source}={self.text!r}" if self.text else self.source

    def contradicts(self, other: Override) -> bool:
        """Return whether this one, which comes later, and the other would undo one another.

        A `Change` never does, nor what is added to a mapping: a map's racing line to ``--map``.
        """
        if callable(self.value) or callable(other.value) or not overlaps(self.path, other.path):
            return False
        below = self.path[len(other.path) :]
        return not below or not isinstance(other.value, dict) or below[0] in other.value


def refuse_contradictions(overrides: Iterable[Override], others: Sequence[Override] = ()) -> None:
    """Refuse settings that undo one another, or one of the others.

    Raises:
        UserError: If two do; the message names both.
    """
    earlier = list(others)
    for override in overrides:
        for other in earlier:
            if override.contradicts(other):
                raise UserError(f"{override.name}: contradicts {other.name}; leave one out")
        earlier.append(override)


def refuse_varied(overrides: Iterable[Override], scenario: Scenario) -> None:
    """Refuse settings of which no client would take notice, as each has its own.

    Raises:
        UserError: If ``federated.vary`` replaces what one of the overrides sets.
    """
    varied = {key: parse_key(key) or () for key in scenario.federated.vary}
    for override in overrides:
        for key, path in varied.items():
            if override.path[: len(path)] == path:
                raise UserError(
                    f"{override.name}: without effect: federated.vary gives every client its own "
                    f"{key}; leave it out, or change federated.vary"
                )


def lay_over(
    data: dict[str, Any], overrides: Iterable[Override]
) -> tuple[dict[str, Any], list[Override]]:
    """Lay overrides over a copy of a file's settings; of two for the same key, the later wins.

    Returns:
        All settings, and the overrides that have an effect.

    Raises:
        UserError: If a dotted key does not exist.
    """
    merged, taken = data, list[Override]()
    for override in overrides:
        value = override.value
        if callable(value):
            found = _lookup(merged, override.path)
            value = value(found)
            if value is found:
                continue
        else:
            taken = [other for other in taken if other.path != override.path]
        try:
            merged = cast("dict[str, Any]", laid(merged, override.path, value))
        except LookupError as error:
            if override.allowed:
                continue  # the file is wrong here; validation will report it
            raise UserError(f"{override.name}: {error.args[0]}") from None
        taken.append(override)
    return merged, taken


def _lookup(data: Any, path: KeyPath) -> object:
    """Return the value at a path of mappings, None if there is none."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def set_overrides(texts: Sequence[str], others: Sequence[Override] = ()) -> list[Override]:
    """Return the settings of ``--set KEY=VALUE``.

    A value is YAML and replaces the scenario's value, also a whole mapping or list.

    Raises:
        UserError: If a text is not KEY=VALUE, or a key is set twice.
    """
    found = [_set_override(text) for text in texts]
    refuse_contradictions(found, others)
    return found


def _set_override(text: str) -> Override:
    key, equals, value = text.partition("=")
    path = parse_key(key.strip())
    if not equals or path is None:
        raise UserError(f"--set={text!r}: allowed: KEY=VALUE, such as {EXAMPLE}")
    source = f"--set {join(path)}"
    if not value.strip():
        raise UserError(f"{source}={value!r}: is empty; allowed: a value, or null")
    data = parse_yaml(value, f"{source}={value!r}").data
    return Override(source, path, data, value)
