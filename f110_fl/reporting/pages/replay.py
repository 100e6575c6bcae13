"""The replay page: recorded episodes in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble
from f110_fl.reporting.pages.recording import EpisodeReplay, Lidar, Recording, TrackShape
from sim.layout import STEER, YAW, V, X, Y

# What recordings are drawn with, in every page that shows any.
COMMON: Final = (
    "common/data.js",
    "common/words.js",
    "common/theme.js",
    "common/view.js",
    "common/scene.js",
    "common/player.js",
)
SCRIPTS: Final = (
    *COMMON,
    "replay/recordings.js",
    "replay/overview.js",
    "replay/charts.js",
    "replay/episodes.js",
    "replay/panels.js",
    "replay/keys.js",
    "replay/main.js",
)
STYLES: Final = ("common/base.css", "replay/replay.css")
FORMAT: Final = 1  # of the data in the page; the page refuses others

_MM: Final = 1e-3  # m, or m/s
_TURN: Final = 2 * np.pi / 2**16  # rad, 16 bit for a turn


@dataclass(frozen=True)
class Channel:
    """How numbers are written: as integers, multiples of a unit, or as float32."""

    kind: str  # "i4", "u2" or "f4", as NumPy names them
    unit: float = 1.0

    def encode(self, values: NDArray[Any]) -> bytes:
        """Write numbers so that they compress well.

        Integers are differences to the row before, modulo their size. The first bytes of all
        numbers come first, then all second bytes, and so on.

        Args:
            values: (T, N).
        """
        dtype = np.dtype("<" + self.kind)
        if self.kind == "f4":
            rows = values.astype(dtype)
        else:
            counts = np.rint(values / self.unit)
            info = np.iinfo(dtype)
            if self.unit != _TURN:  # angles wrap around
                counts = np.clip(counts, info.min, info.max)
            rows = np.diff(counts.astype(np.int64), axis=0, prepend=0).astype(dtype)
        octets = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, dtype.itemsize)
        return np.ascontiguousarray(octets.T).tobytes()


def frame_channels(lidar: Lidar) -> dict[str, Channel]:
    """What is written of a frame, in this order; the reward's terms follow, as float32."""
    return {
        "x": Channel("i4", _MM),
        "y": Channel("i4", _MM),
        "yaw": Channel("u2", _TURN),
        "speed": Channel("i4", _MM),
        "steer": Channel("i4", 1e-4),
        "scan": Channel("u2", max(_MM, lidar.max_range / (2**16 - 1))),
        "reward": Channel("f4"),
    }


POINTS: Final = Channel("i4", _MM)


def write_replay(path: Path, recordings: Sequence[Recording]) -> None:
    """Write the replay of recordings as one HTML file.

    Args:
        path: The file, in a folder that exists.
        recordings: At least one; of several, two can be laid over each other.

    Raises:
        ValueError: If there is no recording, or one has no episode.
        OSError: If the file cannot be written.
    """
    write_atomic(path, page(recordings))


def page(recordings: Sequence[Recording]) -> str:
    """Return the replay of recordings as HTML; see `write_replay`."""
    if not recordings or not all(recording.episodes for recording in recordings):
        raise ValueError("a replay needs at least one recording, each with at least one episode")
    data = {"format": FORMAT, "recordings": [describe(each) for each in recordings]}
    return assemble("replay/replay.html", SCRIPTS, STYLES, data)


def describe(recording: Recording) -> dict[str, Any]:
    """Return a recording as the page's data: texts, numbers, and binary in base64."""
    channels = frame_channels(recording.lidar)
    terms = list(dict.fromkeys(name for episode in recording.episodes for name in episode.terms))
    lidar = recording.lidar
    return {
        "name": recording.name,
        "scenario": recording.scenario,
        "seed": recording.seed,
        "period": recording.period,
        "cars": [asdict(car) for car in recording.cars],
        "agents": recording.agents,
        "lidar": {
            "angles": np.round(lidar.angles, 6).tolist(),
            "mountX": lidar.mount_x,
            "maxRange": lidar.max_range,
        },
        "channels": {name: asdict(channel) for name, channel in channels.items()},
        "terms": terms,
        "tracks": [_track(track) for track in recording.tracks],
        "episodes": [_episode(each, channels, terms) for each in recording.episodes],
    }


def _track(track: TrackShape) -> dict[str, Any]:
    lines = (track.finish_line, track.centerline, *track.walls)
    return {
        "name": track.name,
        "closed": track.closed,
        "lengths": [len(line) for line in lines],  # the finish line, the centre line, the walls
        "points": _pack([POINTS.encode(np.concatenate(lines))]),
    }


def _episode(
    episode: EpisodeReplay, channels: Mapping[str, Channel], terms: Sequence[str]
) -> dict[str, Any]:
    frames, states = len(episode.states), episode.states
    values: dict[str, NDArray[Any]] = {
        "x": states[:, :, X],
        "y": states[:, :, Y],
        "yaw": states[:, :, YAW],
        "speed": states[:, :, V],
        "steer": states[:, :, STEER],
        "scan": episode.scans.reshape(frames, -1),
        "reward": episode.rewards,
    }
    none = np.zeros_like(episode.rewards)
    reward = channels["reward"]
    return {
        "number": episode.number,
        "track": episode.track,
        "frames": frames,
        "ends": [asdict(end) for end in episode.ends],
        "returns": list(episode.returns.values()),
        "lapTimes": episode.lap_times,
        "lapFrames": episode.lap_frames,
        "data": _pack(
            [channel.encode(values[name]) for name, channel in channels.items()]
            + [reward.encode(episode.terms.get(name, none)) for name in terms]
        ),
    }


def _pack(parts: Sequence[bytes]) -> str:
    """Compress (zlib, RFC 1950) and write as text."""
    return base64.b64encode(zlib.compress(b"".join(parts))).decode()
