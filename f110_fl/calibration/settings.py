"""What a fit says, as settings of a scenario and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from f110_fl.calibration.drive_log import CHANNELS, DriveLog
from f110_fl.calibration.fit import Fit
from f110_fl.calibration.parameters import PARAMETERS
from sim.config import HeterogeneityConfig, VehicleConfig
from sim.physics.vehicle import WHOLE

_DECIMALS: Final = 5


def vehicle_settings(fit: Fit, given: VehicleConfig) -> dict[str, Any]:
    """Return the settings of the car that are not the defaults, for ``env.cars[i].vehicle``."""
    settings: dict[str, Any] = given.model_dump(mode="json", exclude_defaults=True)
    settings |= {e.name: _value(e.name, e.value) for e in fit.estimates if not e.missing}
    VehicleConfig.model_validate(settings)
    return settings


def heterogeneity_settings(fit: Fit) -> dict[str, Any]:
    """Return the intervals as ranges, for ``env.heterogeneity``; whole steps outwards."""
    ranges: dict[str, Any] = {}
    for e in fit.estimates:
        if e.missing or e.name not in HeterogeneityConfig.model_fields:
            continue
        if e.name in WHOLE:
            # A delay that all but is a whole number of steps is one.
            ranges[e.name] = [math.floor(e.low + 0.1), math.ceil(e.high - 0.1)]
        else:
            ranges[e.name] = [_value(e.name, e.low), _value(e.name, e.high)]
    HeterogeneityConfig.model_validate_json(json.dumps(ranges))
    return ranges


def fragment(fit: Fit, log: DriveLog, given: VehicleConfig, dt: float) -> str:
    """Return the settings as YAML, whose two parts go into a scenario's ``env``."""
    windows = fit.windows
    lines = [
        f"# Fitted to {log.name}: {len(windows.first)} windows of {windows.length:g} s.",
        f"# Delays are in physics steps of {dt:g} s (env.physics_step).",
    ]
    if unknown := not_identified(fit):
        lines.append(f"# {unknown}")
    lines.append("vehicle: # of env.cars[i]")
    lines += [f"  {name}: {_yaml(value)}" for name, value in vehicle_settings(fit, given).items()]
    lines.append("heterogeneity: # of env; the 95 % intervals")
    ranges = heterogeneity_settings(fit)
    lines += [f"  {name}: {_yaml(value)}" for name, value in ranges.items()]
    return "\n".join(lines) + "\n"


def not_identified(fit: Fit) -> str:
    """Return, in one line, what was left as given; empty if nothing was."""
    reasons: dict[str, list[str]] = {}
    for e in fit.estimates:
        if e.missing:
            value = f"{e.value:g}"
            reasons.setdefault(e.missing, []).append(f"{e.name} ({value})")
    parts = [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
    return f"Left as given: {'; '.join(parts)}." if parts else ""


def summary(fit: Fit, log: DriveLog, given: VehicleConfig, dt: float) -> dict[str, Any]:
    """Return what was found, for JSON.

    Returns:
        ``parameters``, each with value, interval, what was given, and why it is ``missing``;
        ``errors``, of predictions over a window, root mean square by channel, ``before`` and
        ``after``; whether the servo ``trembles``; ``vehicle`` and ``heterogeneity``, the settings.
    """
    units = {parameter.name: parameter.unit for parameter in PARAMETERS}
    words = {parameter.name: parameter.what for parameter in PARAMETERS}
    return {
        "log": log.name,
        "seconds": round(log.duration, 3),
        "windows_used": len(fit.windows.first),
        "window_s": fit.windows.length,
        "physics_step_s": dt,
        "parameters": [
            {**e._asdict(), "unit": units[e.name], "what": words[e.name]} for e in fit.estimates
        ],
        "errors": [
            {"channel": name, "unit": unit, "before": float(before), "after": float(after)}
            for (name, unit), before, after in zip(
                CHANNELS.items(), fit.before, fit.noise, strict=True
            )
            if not math.isnan(after)
        ],
        "trembles": fit.trembles,
        "vehicle": vehicle_settings(fit, given),
        "heterogeneity": heterogeneity_settings(fit),
        "left_as_given": not_identified(fit),
        "notes": list(log.notes),
    }


def text(found: Mapping[str, Any]) -> str:
    """Return a summary as lines: a parameter a row, and errors before and after."""
    lines = [f"{'parameter':<18}{'given':>10}{'fitted':>10}   95 % interval"]
    for row in found["parameters"]:
        head = f"{row['name']:<18}{row['given']:>10.4g}"
        if row["missing"]:
            lines.append(f"{head}{'':>10}   left as given: {row['missing']}")
        else:
            interval = f"[{row['low']:.4g}, {row['high']:.4g}] {row['unit']}".rstrip()
            lines.append(f"{head}{row['value']:>10.4g}   {interval}")
    lines.append("")
    lines.append(
        f"Errors of predictions over {found['window_s']:g} s, root mean square, "
        f"{found['windows_used']} windows:"
    )
    lines += [
        f"{row['channel']:<18}{row['before']:>10.3g}{row['after']:>10.3g}   {row['unit']}"
        for row in found["errors"]
    ]
    if found["trembles"]:
        lines.append("")
        lines.append("The servo trembles around its target by a step's turn, as the simulator's.")
    return "\n".join(lines)


def _value(name: str, value: float) -> float | int:
    return round(value) if name in WHOLE else round(value, _DECIMALS)


def _yaml(value: Any) -> str:
    """A number, a list of numbers, a word, or a mapping of words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # never as 1e-05, which YAML 1.1 takes for a word
        return f"{value:.{_DECIMALS}f}".rstrip("0").removesuffix(".") if value else "0.0"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    return str(value)
