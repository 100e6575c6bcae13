"""Axes of stress evaluations: named disturbances of a scenario, and any setting by dotted key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from f110_fl.config.keys import KeyPath
from f110_fl.config.scenario import Scenario

Change = tuple[KeyPath, object]  # a setting and its value
Changes = Callable[[Scenario, Any], list[Change]]
ENV: Final = "env"


class NamedAxis(NamedTuple):
    """A disturbance by its name.

    Attributes:
        about: What its values are, for messages and pages.
        unit: Their unit; "" for factors and rates.
        changes: Returns the settings that a value stands for in a scenario.

    Raises:
        ValueError: By ``changes``, if the scenario has nothing to disturb, or the value cannot be.
    """

    about: str
    unit: str
    changes: Changes


def _of_vehicles(name: str, *, scripted: bool | None = None) -> Changes:
    """Return what changes one setting of cars' vehicles: all, or only those with a driver or not.

    What cars would draw of it at each reset, they no longer do: the value would have no effect.
    """

    def changes(scenario: Scenario, value: Any) -> list[Change]:
        found: list[Change] = [
            ((ENV, "cars", i, "vehicle", name), value)
            for i, car in enumerate(scenario.env.cars)
            if scripted is None or scripted == (car.driver is not None)
        ]
        if not found:
            raise ValueError("no car of the scenario has a driver")
        return found + _undrawn(scenario, name)

    return changes


def _of_lidar(name: str) -> Changes:
    """Return what changes one setting of the LiDAR, which cars then no longer draw."""

    def changes(scenario: Scenario, value: Any) -> list[Change]:
        return [((ENV, "lidar", name), value), *_undrawn(scenario, f"lidar_{name}")]

    return changes


def _undrawn(scenario: Scenario, name: str) -> list[Change]:
    drawn = getattr(scenario.env.heterogeneity, name) is not None
    return [((ENV, "heterogeneity", name), None)] if drawn else []


def _late(scenario: Scenario, value: Any) -> list[Change]:
    """Return what delays the commands of the cars without a driver by a time, s."""
    step = scenario.env.physics_step
    steps = round(value / step)
    if abs(steps * step - value) > 1e-9:
        raise ValueError(f"{value:g} s is not a multiple of env.physics_step, {step:g} s")
    return _of_vehicles("command_delay", scripted=False)(scenario, steps)


def _faster(scenario: Scenario, value: Any) -> list[Change]:
    """Return what multiplies the fastest speed of the cars without a driver."""
    if value <= 0:
        raise ValueError(f"found {value:g}; allowed: a factor above 0")
    return [
        ((ENV, "cars", i, "vehicle", "speed_max"), value * car.vehicle.speed_max)
        for i, car in enumerate(scenario.env.cars)
        if car.driver is None
    ]


NAMED: Final[Mapping[str, NamedAxis]] = {
    "friction": NamedAxis("friction under every car", "", _of_vehicles("friction")),
    "latency": NamedAxis("time until commands reach the policy's car", "s", _late),
    "lidar_noise": NamedAxis("standard deviation of LiDAR ranges", "m", _of_lidar("noise_std")),
    "lidar_dropout": NamedAxis("share of LiDAR beams lost", "", _of_lidar("dropout")),
    "speed": NamedAxis("fastest speed of the policy's car, over the scenario's", "", _faster),
    "mass": NamedAxis("mass of the policy's car", "kg", _of_vehicles("mass", scripted=False)),
    "opponent_speed": NamedAxis(
        "speed of scripted cars over what they ask for",
        "",
        _of_vehicles("speed_gain", scripted=True),
    ),
}


def drawn_instead(scenario: Scenario, path: KeyPath) -> str:
    """Return the key of what cars draw in place of a setting; "" if none is drawn.

    A value there would have no effect, without a word.
    """
    name = str(path[-1]) if path else ""
    if path[:2] == (ENV, "lidar"):
        name = f"lidar_{name}"
    elif path[:2] != (ENV, "cars") or "vehicle" not in path:
        return ""
    drawn = getattr(scenario.env.heterogeneity, name, None) is not None
    return f"{ENV}.heterogeneity.{name}" if drawn else ""
