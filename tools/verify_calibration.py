#!/usr/bin/env python3
"""Fit simulated cars whose parameters are known, and count how often the intervals hold them.

Each car has parameters of its own, drawn at random, and is driven for a while in the simulator;
what a fit is given is the log with measurement noise, and a car with the default settings. Prints,
for each parameter, how many logs identify it, in how many of these fits its 95 % interval holds the
true value, and how wide the interval is. Figures depend on the seed alone.

Exit status: 0 if at least 90 % of each parameter's intervals hold the true value, else 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from f110_fl.commandline import FAILED, OneLineParser, program
from f110_fl.errors import UserError
from sim.config import VehicleConfig

if TYPE_CHECKING:
    from f110_fl.calibration.fit import Fit

WANTED: Final = 0.9
# Smallest and largest value of each parameter; the delay in s, the rear stiffness over the front's,
# since a car that oversteers cannot be driven fast.
DRAWN: Final = {
    "speed_lag": (0.02, 0.2),
    "speed_gain": (0.9, 1.1),
    "acceleration_max": (5.0, 10.0),
    "steer_gain": (0.9, 1.1),
    "steer_trim": (-0.04, 0.04),
    "steer_rate_max": (2.5, 5.0),
    "command_delay": (0.0, 0.06),
    "friction": (0.6, 1.05),
    "stiffness_front": (4.0, 6.0),
    "stiffness_rear": (1.05, 1.4),
}
DELAY: Final = 0.02  # s, of the servo, which is given


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="verify_calibration.py", description=__doc__)
    parser.add_argument("--fits", default="50", metavar="N", help="cars (default: 50)")
    parser.add_argument("--seed", default="0", metavar="N", help="of all draws (default: 0)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="of driving (default: 60)"
    )
    parser.add_argument(
        "--physics-step",
        type=float,
        default=0.01,
        metavar="S",
        help="of the simulator; with smaller ones its servo trembles less (default: 0.01)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 the intervals hold, 1 they do not, 2 wrong input."""
    return program("verify_calibration.py", partial(_verify, build_parser().parse_args(argv)))


def _verify(arguments: argparse.Namespace) -> int:
    from f110_fl.loading.texts import bounded

    fits = bounded("--fits", arguments.fits, 1, 100_000)
    seed = bounded("--seed", arguments.seed, 0, 2**62)
    for flag, value, low, high in (
        ("--seconds", arguments.seconds, 15.0, 3600.0),
        ("--physics-step", arguments.physics_step, 0.001, 0.02),
    ):
        if not low <= value <= high:
            raise UserError(f"{flag}={value:g}: allowed: {low:g} to {high:g} s")
    found = []
    for index, stream in enumerate(np.random.SeedSequence(seed).spawn(fits)):
        true, fit = fit_one(
            np.random.default_rng(stream), arguments.seconds, arguments.physics_step
        )
        found.append((true, fit))
        outside = [e.name for e in fit.estimates if not e.missing and not holds(fit, true, e.name)]
        left = [e.name for e in fit.estimates if e.missing]
        words = f"outside: {', '.join(outside) or 'none'}"
        words += f"; not identified: {', '.join(left)}" if left else ""
        print(f"verify_calibration.py: {index + 1} of {fits}: {words}", file=sys.stderr)  # noqa: T201
    result = coverage(found)
    print(json.dumps(result, indent=2) if arguments.json else table(result))  # noqa: T201
    return 0 if result["least"] >= WANTED else FAILED


def fit_one(rng: np.random.Generator, seconds: float, dt: float) -> tuple[VehicleConfig, Fit]:
    """Draw a car, drive it, and fit a default car to its log; return the car and the fit."""
    from f110_fl.calibration.fit import fit
    from f110_fl.calibration.simulated import record

    true = draw(rng, dt)
    given = VehicleConfig.model_validate(
        {"tyre": {"kind": "saturating"}, "steer_delay": round(DELAY / dt)}
    )
    return true, fit(record(true, rng, seconds=seconds, physics_step=dt), given, dt)


def draw(rng: np.random.Generator, dt: float) -> VehicleConfig:
    """Return a car with saturating tyres and parameters within `DRAWN`."""
    values: dict[str, Any] = {name: float(rng.uniform(*ends)) for name, ends in DRAWN.items()}
    values["stiffness_rear"] *= values["stiffness_front"]
    values["command_delay"] = round(values["command_delay"] / dt)
    values |= {"tyre": {"kind": "saturating"}, "steer_delay": round(DELAY / dt)}
    return VehicleConfig.model_validate(values)


def holds(fit: Fit, true: VehicleConfig, name: str) -> bool:
    """Return whether the interval of a parameter holds its true value.

    Of a stiffness, where the friction was left as given: what has that friction the same product.
    """
    wanted = float(getattr(true, name))
    friction = fit.estimate("friction")
    if name.startswith("stiffness") and friction.missing:
        wanted *= true.friction / friction.value
    found = fit.estimate(name)
    return found.low <= wanted <= found.high


def coverage(found: Sequence[tuple[VehicleConfig, Fit]]) -> dict[str, Any]:
    """Return, for JSON, how often the intervals of each parameter hold the true value."""
    rows: list[dict[str, Any]] = []
    for place, first in enumerate(found[0][1].estimates):
        known = [(true, fit) for true, fit in found if not fit.estimates[place].missing]
        inside = sum(holds(fit, true, first.name) for true, fit in known)
        widths = [(fit.estimates[place].high - fit.estimates[place].low) / 2 for _, fit in known]
        rows.append(
            {
                "name": first.name,
                "identified": len(known),
                "inside": inside,
                "half_width": float(np.median(widths)) if known else None,
            }
        )
    shares = [row["inside"] / row["identified"] for row in rows if row["identified"]]
    return {
        "fits": len(found),
        "parameters": rows,
        "all": sum(row["inside"] for row in rows) / max(1, sum(row["identified"] for row in rows)),
        "least": min(shares, default=0.0),
    }


def table(result: dict[str, Any]) -> str:
    """Return the coverage as lines."""
    lines = [f"{'parameter':<18}{'identified':>12}{'inside':>8}{'share':>9}{'+-, median':>13}"]
    for row in result["parameters"]:
        share = f"{row['inside'] / row['identified']:.0%}" if row["identified"] else ""
        width = f"{row['half_width']:.3g}" if row["identified"] else ""
        head = f"{row['name']:<18}{row['identified']:>12}"
        lines.append(f"{head}{row['inside']:>8}{share:>9}{width:>13}")
    lines.append(
        f"All intervals: {result['all']:.1%} hold; of the worst parameter {result['least']:.0%}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
