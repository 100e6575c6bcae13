"""What a car's sensors say, as a policy's observation has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.robot.contract import Contract, ContractError, Scan

Array = NDArray[np.float32]

_COARSEST: Final = 2.0  # spacings of a scan's beams, in those of the contract, at most


class Motion(NamedTuple):
    """How a car moves.

    Attributes:
        speed: m/s, forwards.
        steer: rad, steering angle, to the left.
        yaw_rate: rad/s, to the left.
        slip: rad, of the velocity against the body, to the left.
    """

    speed: float = 0.0
    steer: float = 0.0
    yaw_rate: float = 0.0
    slip: float = 0.0


class Pose(NamedTuple):
    """Where a car is, in the track's frame: m, m, rad."""

    x: float
    y: float
    yaw: float


class ScanReader:
    """Picks the contract's beams out of the scans of a range finder.

    Each of the contract's beams is the nearest of the scan's, which may be more and may run
    clockwise. Ranges are read as REP 117 has them: ``inf`` and more than ``range_max`` is nothing
    hit; NaN, ``-inf`` and less than ``range_min`` is a beam that failed, which counts as nothing
    hit too, as a dropped beam does in training, and is counted.

    Args:
        wanted: The contract's.
        count: Beams of the scan, M.
        angle_min: rad, of its first beam.
        angle_increment: rad, to the next one; negative if they run clockwise.

    Attributes:
        note: How the scan is read, in words; empty if it is the contract's own.

    Raises:
        ContractError: If the scan does not cover the contract's angles, or is too coarse.
    """

    def __init__(self, wanted: Scan, count: int, angle_min: float, angle_increment: float) -> None:
        half = wanted.field_of_view / 2 if wanted.beams > 1 else 0.0
        angles = np.linspace(-half, half, wanted.beams)
        if count < 1 or not all(map(math.isfinite, (angle_min, angle_increment))):
            raise ContractError(
                f"a scan of {count} beams from {angle_min} rad by {angle_increment}"
            )
        if count > 1 and angle_increment == 0.0:
            raise ContractError("a scan whose angle_increment is 0")
        spacing = abs(angle_increment)
        ends = sorted((angle_min, angle_min + (count - 1) * angle_increment))
        slack = spacing / 2 + 1e-6
        if ends[0] > -half + slack or ends[1] < half - slack:
            raise ContractError(
                f"the scan covers {math.degrees(ends[0]):.1f} to {math.degrees(ends[1]):.1f} "
                f"degrees; the policy needs {math.degrees(-half):.1f} to {math.degrees(half):.1f}"
            )
        if wanted.beams > 1 and spacing > _COARSEST * wanted.spacing + 1e-9:
            raise ContractError(
                f"the scan has a beam every {math.degrees(spacing):.2f} degrees; the policy needs "
                f"one every {math.degrees(_COARSEST * wanted.spacing):.2f} at least"
            )
        places = (angles - angle_min) / angle_increment if count > 1 else np.zeros(wanted.beams)
        self._index = np.clip(np.rint(places), 0, count - 1).astype(np.int64)
        self._count = count
        self._max_range = np.float32(wanted.max_range)
        off = float(np.abs(places - self._index).max()) * spacing
        self.note = ""
        if count != wanted.beams or not np.array_equal(self._index, np.arange(count)) or off > 1e-3:
            turned = ", clockwise" if angle_increment < 0 else ""
            self.note = (
                f"the scan's {count} beams{turned} are read at the policy's {wanted.beams}, "
                f"at most {math.degrees(off):.2f} degrees off"
            )

    def read(
        self, ranges: Sequence[float] | NDArray[Any], range_min: float, range_max: float
    ) -> tuple[Array, int]:
        """Return the contract's beams, (B,) m, and how many of them failed.

        Args:
            ranges: (M,) m.
            range_min: m, of the range finder.
            range_max: m, of the range finder.

        Raises:
            ContractError: If there are not M.
        """
        if len(ranges) != self._count:
            raise ContractError(f"a scan of {len(ranges)} beams after scans of {self._count}")
        seen = np.asarray(ranges, np.float32)[self._index]
        failed = ~(seen >= range_min)  # NaN, too
        nothing = failed | (seen > range_max)
        return np.where(nothing, self._max_range, seen), int(np.count_nonzero(failed))


def observe(
    contract: Contract,
    ranges: Array,
    motion: Motion,
    pose: Pose | None = None,
    others: Sequence[Pose] = (),
    velocities: Sequence[tuple[float, float]] = (),
) -> Array:
    """Return an observation, (D,).

    Args:
        contract: What is observed.
        ranges: (B,) m, of the contract's beams.
        motion: Of the car.
        pose: Where the car is, for the parts ``pose``, ``others`` and ``others_velocity``.
        others: Where the other cars are, in the order of the scenario, from the car's own on.
        velocities: How they move along the axes of these poses, m/s each, in the same order.

    Raises:
        ContractError: If something is missing that is observed.
    """
    parts: list[Any] = []
    for part, size in contract.observation:
        if part == "lidar":
            if len(ranges) != size:
                raise ContractError(f"{len(ranges)} ranges; the policy needs {size}")
            parts.append(_within(ranges / np.float32(contract.scan.max_range), 0.0))
        elif part == "motion":
            scales = contract.scales
            units = (scales.speed, scales.steer, scales.yaw_rate, scales.slip)
            parts.append(_within(np.array(motion) / np.array(units), -1.0))
        elif pose is None:
            raise ContractError(f"the policy observes {part}: it needs the pose of the car")
        elif part == "pose":
            middle, half = np.array(contract.box)
            place = _within((np.array(pose[:2]) - middle) / half, -1.0)
            parts.append((*place, math.sin(pose.yaw), math.cos(pose.yaw)))
        elif part == "others":
            _count("poses", len(others), size // 4)
            parts += [_other(pose, other, contract.scales.others) for other in others]
        else:
            _count("velocities", len(velocities), size // 2)
            moving = [_passing(pose.yaw, motion, velocity) for velocity in velocities]
            parts.append(_within(np.ravel(moving) / contract.scales.speed, -1.0))
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def _count(what: str, found: int, needed: int) -> None:
    if found != needed:
        raise ContractError(f"{what} of {found} other cars; {needed} are needed")


def _passing(yaw: float, motion: Motion, other: tuple[float, float]) -> tuple[float, float]:
    """Velocity of another car less the own one's, forwards and to the left, m/s."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    own = motion.speed * math.cos(motion.slip), motion.speed * math.sin(motion.slip)
    return cos * other[0] + sin * other[1] - own[0], cos * other[1] - sin * other[0] - own[1]


def _within(values: NDArray[Any], low: float) -> NDArray[Any]:
    bounded: NDArray[Any] = np.minimum(np.maximum(values, low), 1.0)
    return bounded


def _other(own: Pose, other: Pose, scale: float) -> tuple[float, float, float, float]:
    """Another car as seen from the own one."""
    dx, dy = other.x - own.x, other.y - own.y
    cos, sin = math.cos(own.yaw), math.sin(own.yaw)
    ahead, left = cos * dx + sin * dy, cos * dy - sin * dx
    turned = other.yaw - own.yaw
    return (
        ahead / (abs(ahead) + scale),
        left / (abs(left) + scale),
        math.sin(turned),
        math.cos(turned),
    )
