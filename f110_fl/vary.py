"""How clients differ: ``federated.vary`` laid over the scenario, client by client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from f110_fl.federated_config import RangeConfig
from f110_fl.key_path import KeyPath, join, laid, overlaps, parse_key
from sim.config import EnvConfig

if TYPE_CHECKING:
    from f110_fl.scenario import Scenario


def client_settings(
    vary: Mapping[str, RangeConfig | tuple[Any, ...]], seed: int, client_id: int
) -> dict[str, Any]:
    """Return what a client has of its own.

    Of a list it has the entry of its number, and lists start again from their beginning where
    there are more clients. From a range it draws uniformly, both ends included, a whole number
    where both ends are; the draw depends on the seed, the client and the key alone.

    Args:
        vary: Lists and ranges, by dotted key.
        seed: The scenario's.
        client_id: From 0.

    Returns:
        Its values, by dotted key.
    """
    return {
        key: _drawn(key, values, seed, client_id)
        if isinstance(values, RangeConfig)
        else values[client_id % len(values)]
        for key, values in vary.items()
    }


def _drawn(key: str, limits: RangeConfig, seed: int, client_id: int) -> float | int:
    import numpy as np

    from f110_fl.seeding import Use, stream

    low, high = limits.low, limits.high
    rng = np.random.default_rng(stream(seed, Use.VARIATION, client_id, crc32(key.encode())))
    if isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high, endpoint=True))
    return float(rng.uniform(low, high))


def client_scenario(scenario: Scenario, client_id: int) -> Scenario:
    """Return a scenario as one of its clients has it.

    Raises:
        ValidationError: If the client's environment or evaluation cannot be.
        ValueError: If a key leads nowhere, or the client could not share networks with others.
    """
    federated = scenario.federated
    sections: dict[str, Any] = {
        "env": scenario.env.model_dump(),
        "evaluation": scenario.evaluation.model_dump(),
    }
    for key, value in client_settings(federated.vary, scenario.seed, client_id).items():
        try:
            sections = laid(sections, parse_key(key) or (), value)  # type: ignore[assignment]
        except LookupError as error:
            raise ValueError(f"{key}: {error.args[0]}") from None
    env = EnvConfig.model_validate(sections["env"], strict=True)
    evaluation = type(scenario.evaluation).model_validate(sections["evaluation"], strict=True)
    for what, own, common in zip(
        ("env.lidar.beams", "env.observation", "the cars' names and who has a driver"),
        _interface(env),
        _interface(scenario.env),
        strict=True,
    ):
        if own != common:
            raise ValueError(f"{what} must be the same for all clients, which share networks")
    return scenario.model_copy(update={"env": env, "evaluation": evaluation})


def _interface(env: EnvConfig) -> tuple[object, ...]:
    """Return what decides the sizes of networks, and whose they are."""
    cars = [(car.name, car.driver is None) for car in env.cars]
    return env.lidar.beams, env.observation, cars


class ClientSettingsError(ValueError):
    """What one client has of its own cannot be.

    Args:
        client_id: The first such client.
        reason: Why, in words.
        key: The key of ``federated.vary`` that is to blame, if one alone is.
        error: What the models say, with its place in the client's scenario, if they do.
    """

    def __init__(
        self, client_id: int, reason: str, key: str = "", error: ErrorDetails | None = None
    ) -> None:
        super().__init__(f"client {client_id}: {reason}")
        self.client_id = client_id
        self.error = error
        self.path: KeyPath = ("federated", "vary", key) if key else ("federated", "vary")


def check(scenario: Scenario) -> None:
    """Make sure that every client's settings can be.

    Raises:
        ClientSettingsError: If not; it names the first such client.
    """
    vary, seen = scenario.federated.vary, set[str]()
    for client_id in range(scenario.federated.clients if vary else 0):
        settings = repr(client_settings(vary, scenario.seed, client_id))
        if settings not in seen:  # short lists repeat
            seen.add(settings)
            _check_client(scenario, client_id)


def _check_client(scenario: Scenario, client_id: int) -> None:
    try:
        own = client_scenario(scenario, client_id)
        for stage in own.curriculum.stages if own.curriculum else ():
            stage.indices(own.env)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        section = "env" if error.title == EnvConfig.__name__ else "evaluation"
        first["loc"] = (section, *first["loc"])
        keys = [key for key in scenario.federated.vary if _made(key, first["loc"])]
        reason = f"{join(first['loc'])}: {first['msg']}"
        raise ClientSettingsError(
            client_id, reason, keys[0] if len(keys) == 1 else "", first
        ) from None
    except ValueError as error:
        raise ClientSettingsError(client_id, str(error)) from None


def _made(key: str, loc: KeyPath) -> bool:
    """Whether what a dotted key sets is at a pydantic location, in it or around it."""
    path = parse_key(key) or ()
    parts = iter(loc)  # in which names of a union's members may stand between the keys
    return overlaps(path, loc) or all(part in parts for part in path)
