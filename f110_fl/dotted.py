"""Settings by dotted key, such as ``learners.car_0.discount``: ``--set`` and grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from f110_fl.errors import UserError
from f110_fl.key_path import join, overlaps, parse_key
from f110_fl.overrides import Override, implied
from f110_fl.yaml_tree import parse_yaml

EXAMPLE: Final = "learners.car_0.discount=0.98"


def with_implied(overrides: Sequence[Override], others: Sequence[Override] = ()) -> list[Override]:
    """Return settings after what they imply; see ``overrides.environment_overrides``.

    Args:
        overrides: The settings.
        others: Explicit ones, which win over what is only implied.
    """
    explicit = {other.path for other in others}
    more = [other for override in overrides for other in implied(override)]
    return [*(other for other in more if other.path not in explicit), *overrides]


def set_overrides(texts: Sequence[str], others: Sequence[Override]) -> list[Override]:
    """Return the settings that ``--set KEY=VALUE`` brings.

    A value is YAML and replaces what the scenario has there, mappings and lists whole.

    Args:
        texts: What followed the flags.
        others: The settings of other flags.

    Raises:
        UserError: If a text is not KEY=VALUE, or a key is set twice.
    """
    found: list[Override] = []
    for text in texts:
        override = _set_override(text)
        for other in (*others, *found):
            if overlaps(other.path, override.path):
                raise UserError(f"{override.name}: contradicts {other.name}; leave one out")
        found.append(override)
    return with_implied(found, others)


def _set_override(text: str) -> Override:
    key, equals, value = text.partition("=")
    path = parse_key(key.strip())
    if not equals or path is None:
        raise UserError(f"--set={text!r}: allowed: KEY=VALUE, such as {EXAMPLE}")
    source = f"--set {join(path)}"
    if not value.strip():
        raise UserError(f"{source}={value!r}: is empty; allowed: a value, or null")
    data = parse_yaml(value, f"{source}={value!r}").data
    return Override(source, path, data, value, "")
