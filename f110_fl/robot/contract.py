"""What an exported policy was trained to see and to command: ``contract.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from f110_fl.errors import UserError, system_error

FORMAT: Final = 1  # of the directory; another one is refused
CONTRACT: Final = "contract.json"
ARRAYS: Final = "policy.npz"
GRAPH: Final = "policy.onnx"
GOLDEN: Final = "golden.npz"
SCENARIO: Final = "scenario.json"


class ContractError(UserError):
    """A policy's files, or what a sensor sends, do not fit; one line says what is allowed."""


@dataclass(frozen=True)
class Scan:
    """The range finder that the policy knows.

    Attributes:
        beams: B, evenly from ``-field_of_view / 2`` to ``field_of_view / 2``, counter-clockwise;
            a single one looks ahead.
        field_of_view: rad.
        max_range: m, what a beam reads that hits nothing; what is observed is the range divided
            by it, within [0, 1].
        mount_x: m, of the sensor ahead of the centre of gravity.
    """

    beams: int
    field_of_view: float
    max_range: float
    mount_x: float

    @property
    def spacing(self) -> float:
        """Angle between beams, rad; 0 for a single one."""
        return self.field_of_view / (self.beams - 1) if self.beams > 1 else 0.0


@dataclass(frozen=True)
class Scales:
    """What 1 stands for in the parts of an observation that are no ranges.

    Attributes:
        speed: m/s.
        steer: rad.
        yaw_rate: rad/s.
        slip: rad.
        others: m; another car's coordinate x reads x / (abs(x) + others).
    """

    speed: float
    steer: float
    yaw_rate: float
    slip: float
    others: float


@dataclass(frozen=True)
class Commands:
    """What the two numbers in [-1, 1] become, linearly.

    Attributes:
        rate: Commands a second, Hz.
        steer: rad, steering angle of 1, to the left; that of -1 is its negative.
        slowest: m/s, speed of -1.
        fastest: m/s, speed of 1.
        steer_rate: rad/s, with which the car's servo turned in training.
        steer_delay: s, until a steering angle took effect.
    """

    rate: float
    steer: float
    slowest: float
    fastest: float
    steer_rate: float
    steer_delay: float


@dataclass(frozen=True)
class Contract:
    """What a policy takes and gives, and where it is from.

    Attributes:
        agent: Name of the car that it drove.
        observation: Names and sizes of the parts of an observation, in order: ``lidar``, B ranges;
            ``motion``: speed, steering angle, yaw rate, slip angle; ``pose``: x, y in the track's
            box, sine and cosine of the yaw; ``others``: for each other car where it is, ahead and
            to the left, sine and cosine of its yaw as seen from the car; ``others_velocity``: for
            each its velocity less the car's, ahead and to the left.
        box: Of the track, ``pose`` only: its middle, and half its size; m.
        scan: The range finder.
        scales: What 1 stands for.
        commands: What comes out.
        policy: How tensors of ``policy.npz`` make up the network: `sim.policy.PolicyFormat`.
        origin: ``scenario``, ``checkpoint`` and their SHA-256 digests, ``version``.
    """

    agent: str
    observation: tuple[tuple[str, int], ...]
    box: tuple[tuple[float, float], tuple[float, float]] | None
    scan: Scan
    scales: Scales
    commands: Commands
    policy: dict[str, Any]
    origin: dict[str, str]

    @property
    def size(self) -> int:
        """How many numbers an observation has, D."""
        return sum(size for _, size in self.observation)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of an observation."""
        return tuple(part for part, _ in self.observation)

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def load_contract(directory: Path) -> Contract:
    """Read the contract of an exported policy.

    Args:
        directory: What ``tools/export_policy.py`` wrote.

    Raises:
        ContractError: If there is none, or it is of another format.
    """
    path = directory / CONTRACT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ContractError(system_error(error)) from None
    except ValueError as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != FORMAT:
        raise ContractError(f"{path}: format {found!r}; this version reads {FORMAT}")
    try:
        return _contract(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ContractError(f"{path}: is not a contract: {error}") from None


def _contract(document: Mapping[str, Any]) -> Contract:
    names = {field.name for field in fields(Contract)}
    if document.keys() != names:
        raise ValueError(f"entries {', '.join(sorted(document.keys() ^ names))}")
    box = document["box"]
    return Contract(
        agent=str(document["agent"]),
        observation=tuple((str(part), int(size)) for part, size in document["observation"]),
        box=None if box is None else (tuple(map(float, box[0])), tuple(map(float, box[1]))),  # type: ignore[arg-type]
        scan=Scan(**document["scan"]),
        scales=Scales(**document["scales"]),
        commands=Commands(**document["commands"]),
        policy=dict(document["policy"]),
        origin=dict(document["origin"]),
    )
