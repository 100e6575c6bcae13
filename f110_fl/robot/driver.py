"""What stands between a policy and the motor: sensors in, commands out, and every reason to stop.

Times are seconds of one clock that the caller reads, so that all of it can be tested without one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from f110_fl.robot.contract import Contract, ContractError
from f110_fl.robot.policy import Policy
from f110_fl.robot.sensors import Motion, ScanReader

_MISSED: Final = 3.0  # periods without a command after which the watchdog stops the car
_STEER_TOLERANCE: Final = 1e-4  # rad; nearer to its target, the servo rests


@dataclass(frozen=True)
class Limits:
    """What a driver may do.

    Attributes:
        speed: m/s, at most, forwards and backwards; infinite: what the policy commands.
        slow_start: s, in which the allowed speed grows from 0 whenever the car may go.
        stale: s, age of a scan or of odometry with which the car stops.
        failed: Part of the beams that may fail; with more the car stops.
        dead_man: Whether the car only drives while someone holds a switch.
    """

    speed: float = math.inf
    slow_start: float = 2.0
    stale: float = 0.2
    failed: float = 0.3
    dead_man: bool = False


class Command(NamedTuple):
    """What is sent to the car.

    Attributes:
        steer: rad, steering angle, to the left.
        speed: m/s.
        reason: Why the car stands; empty if it drives.
    """

    steer: float
    speed: float
    reason: str


class Servo:
    """Estimates the steering angle, which most cars do not measure.

    The commanded angle takes effect after the contract's delay, and is turned to at its rate.

    Args:
        contract: Of the policy.
    """

    def __init__(self, contract: Contract) -> None:
        self._commands = contract.commands
        self._sent: list[tuple[float, float]] = []  # times and angles
        self._time = math.nan
        self.angle = 0.0

    def send(self, time: float, angle: float) -> None:
        """Command an angle."""
        self.advance(time)
        self._sent.append((time + self._commands.steer_delay, angle))

    def advance(self, time: float) -> float:
        """Return the angle at a time, which does not go back."""
        target, since = self.angle, self._time
        for begins, angle in self._sent:
            if begins > time:
                break
            if not math.isnan(since):
                self._turn(target, begins - since)
            target, since = angle, max(begins, since) if not math.isnan(since) else begins
        if not math.isnan(since):
            self._turn(target, time - since)
        while len(self._sent) > 1 and self._sent[1][0] <= time:
            del self._sent[0]
        self._time = time
        return self.angle

    def _turn(self, target: float, seconds: float) -> None:
        if abs(target - self.angle) > _STEER_TOLERANCE:
            most = self._commands.steer_rate * max(seconds, 0.0)
            self.angle += min(max(target - self.angle, -most), most)


class Driver:
    """Drives a car by a policy, and stops it whenever something is not as it should be.

    Args:
        policy: Chooses the commands.
        limits: What it may do.
        tell: Called with a line whenever there is something to say.
    """

    def __init__(
        self, policy: Policy, limits: Limits, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        unknown = set(policy.contract.parts) - {"lidar", "motion"}
        if unknown:
            raise ContractError(
                f"the policy observes {', '.join(sorted(unknown))}, which the node has no topics "
                "for; allowed: lidar, motion"
            )
        self._policy, self._limits, self._tell = policy, limits, tell
        self._contract = policy.contract
        self._servo = Servo(policy.contract)
        self._geometry: tuple[int, float, float] | None = None
        self._reader: ScanReader | None = None
        self._ranges: NDArray[np.float32] | None = None
        self._refused = ""
        self._scan_time = self._odometry_time = -math.inf
        self._speed = self._yaw_rate = self._slip = 0.0
        self._held = False
        self._driving_since: float | None = None
        self._reason = ""

    @property
    def period(self) -> float:
        """Time between two commands, s."""
        return 1.0 / self._contract.commands.rate

    def on_scan(
        self,
        time: float,
        ranges: Sequence[float] | NDArray[Any],
        angle_min: float,
        angle_increment: float,
        range_min: float = 0.0,
        range_max: float = math.inf,
    ) -> None:
        """Take a scan; fields as in ROS's ``LaserScan``. A scan that does not fit stops the car."""
        geometry = (len(ranges), angle_min, angle_increment)
        try:
            if geometry != self._geometry:
                self._geometry, self._reader = geometry, None
                self._reader = ScanReader(self._contract.scan, *geometry)
                if self._reader.note:
                    self._tell(self._reader.note)
            if self._reader is None:
                return  # refused before
            seen, failed = self._reader.read(ranges, range_min, range_max)
        except ContractError as error:
            self._refused = str(error)
            return
        self._refused = ""
        if failed > self._limits.failed * len(seen):
            self._refused = f"{failed} of {len(seen)} beams failed"
        self._ranges, self._scan_time = seen, time

    def on_odometry(
        self, time: float, speed: float, yaw_rate: float, sideways: float = 0.0
    ) -> None:
        """Take odometry.

        Args:
            time: s.
            speed: m/s, forwards.
            yaw_rate: rad/s, to the left.
            sideways: m/s, to the left, at the centre of gravity; 0 if it is not measured.
        """
        if not all(map(math.isfinite, (speed, yaw_rate, sideways))):
            return  # it grows stale
        self._speed, self._yaw_rate = speed, yaw_rate
        self._slip = math.atan2(sideways, abs(speed)) if abs(speed) > 0.1 else 0.0
        self._odometry_time = time

    def on_dead_man(self, held: bool) -> None:
        """See whether someone holds the switch."""
        self._held = held

    def decide(self, time: float) -> Command:
        """Choose a command; to be called every `period`.

        Args:
            time: s, now.
        """
        reason = self._stop(time)
        if reason != self._reason:
            self._tell(f"stopped: {reason}" if reason else "driving")
            self._reason = reason
        if reason or self._ranges is None:
            self._driving_since = None
            self._policy.reset()
            self._servo.send(time, 0.0)
            return Command(0.0, 0.0, reason)
        if self._driving_since is None:
            self._driving_since = time
        motion = Motion(self._speed, self._servo.advance(time), self._yaw_rate, self._slip)
        steer, speed = self._policy.act(self._ranges, motion)
        allowed = min(self._limits.speed, self._started(time))
        speed = min(max(speed, -allowed), allowed)
        self._servo.send(time, steer)
        return Command(steer, speed, "")

    def _started(self, time: float) -> float:
        """Speed that the slow start allows, m/s."""
        begun, lasts = self._driving_since, self._limits.slow_start
        if begun is None or time - begun >= lasts:
            return math.inf
        commands = self._contract.commands
        fastest = max(abs(commands.fastest), abs(commands.slowest))
        return fastest * (time - begun + self.period) / (lasts + self.period)

    def _stop(self, time: float) -> str:
        """Return why the car must stand; empty if it may go."""
        if self._limits.dead_man and not self._held:
            return "nobody holds the dead-man switch"
        if self._refused:
            return self._refused
        if time - self._scan_time > self._limits.stale:
            return f"no scan for {self._limits.stale:g} s"
        if "motion" in self._contract.parts and time - self._odometry_time > self._limits.stale:
            return f"no odometry for {self._limits.stale:g} s"
        return ""


class Watchdog:
    """Stops the car from a thread of its own if no command comes, as when a program hangs.

    Args:
        period: s, between two commands.
        stop: Sends the car a command to stand; called every period until commands come again.
    """

    def __init__(self, period: float, stop: Callable[[], None]) -> None:
        self._patience, self._stop = _MISSED * period, stop
        self._fed, self._over = Event(), Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def feed(self) -> None:
        """Say that a command was sent."""
        self._fed.set()

    def close(self) -> None:
        """End."""
        self._over.set()
        self._fed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            if not self._fed.wait(self._patience):
                self._stop()
            self._fed.clear()
