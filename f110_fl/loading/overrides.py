"""Settings from environment variables and the command line, to lay over a scenario.

The command line wins over the environment, the environment over the scenario, the
scenario over the defaults. A value that cannot be used is never ignored: it raises a
``UserError`` that names the variable or flag, the value and what is allowed. So does an
empty value, except in ``WANDB_*`` variables, where it means unset, as in W&B itself, and
for ``--wandb-prefix``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from f110_fl.config.federated import FederatedConfig
from f110_fl.config.keys import join, laid, overlaps, parse_key
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml
from f110_fl.loading.fields import place_at

_CLIENTS: Final = ("federated", "clients")
_WEIGHTING: Final = ("federated", "weighting")
_WEIGHTS: Final = ("federated", "weights")


@dataclass(frozen=True)
class Override:
    """One setting from outside the scenario's file."""

    source: str  # the variable or flag that brought it
    path: tuple[str | int, ...]  # the keys, and indices of lists, that lead to what it sets
    value: object
    text: str  # as the user gave it; "" for a flag without a value
    allowed: str  # what may stand there, in words; "": the models say it

    @property
    def name(self) -> str:
        """Source and text, as messages quote them."""
        return f"{self.source}={self.text!r}" if self.text else self.source


@dataclass(frozen=True)
class SeedPlan:
    """Value of ``--auto-seed``: client k is seeded with ``base + k * step``."""

    base: int | None  # None: the scenario's seed
    step: int

    def seeds(self, data: Mapping[str, Any]) -> tuple[int, ...]:
        """Return one seed a client; none if ``data`` is not fit to count them from."""
        federated = data.get("federated", {})
        clients = FederatedConfig.model_fields["clients"].default
        if isinstance(federated, dict):
            clients = federated.get("clients", clients)
        base = self.base
        if base is None:
            base = data.get("seed", Scenario.model_fields["seed"].default)
        if not (_fits(_CLIENTS, clients) and _fits(("seed",), base)):
            return ()
        return tuple(base + k * self.step for k in range(clients))


def _fits(path: tuple[str, ...], value: object) -> bool:
    """Return whether the one field at ``path`` takes ``value``, whatever its neighbours are."""
    place = place_at(Scenario, path)
    kind: Any = place.annotation
    for constraint in place.constraints:
        kind = Annotated[kind, constraint]
    try:
        TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(
            value, strict=True
        )
    except ValidationError:
        return False
    return True


def implied(override: Override) -> list[Override]:
    """Return what an override of a key means for the keys that depend on it."""
    if override.path == ("seed",):
        return [replace(override, path=("seeds",), value=())]
    if override.path == _WEIGHTS:
        return [replace(override, path=_WEIGHTING, value="weights")]
    if override.path == _WEIGHTING and override.value != "weights":
        return [replace(override, path=_WEIGHTS, value=())]
    return []


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
