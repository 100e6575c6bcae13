"""``--video``, ``--still``: which pictures an evaluation leaves, and of which episode."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from f110_fl.errors import UserError
from f110_fl.loading.texts import bounded
from f110_fl.reporting.pictures import STILL_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from rich.console import Console

    from f110_fl.reporting.pages.recording import Recording


@dataclass(frozen=True)
class Pictures:
    """Files to draw, and the episode that they show."""

    video: Path | None = None
    still: Path | None = None
    episode: int | None = None  # None: the first success, or the first if there is none

    @property
    def wanted(self) -> bool:
        """Whether there is anything to draw."""
        return self.video is not None or self.still is not None


NO_PICTURES: Final = Pictures()


def resolve_pictures(arguments: argparse.Namespace, episodes: int) -> Pictures:
    """Return the pictures that flags ask for.

    Args:
        arguments: The command line's.
        episodes: How many are evaluated.

    Raises:
        UserError: If a file cannot be written, its format is unknown, or what writes it is missing.
    """
    video = _file("--video", arguments.video, VIDEO_SUFFIXES)
    still = _file("--still", arguments.still, STILL_SUFFIXES)
    text, episode = arguments.video_episode, None
    if text is not None:
        if video is None and still is None:
            raise UserError(f"--video-episode={text!r}: needs --video FILE or --still FILE")
        why = f", as there are {episodes} episodes"
        episode = bounded("--video-episode", text, 0, episodes - 1, why)
    if video is not None and video.suffix.lower() == ".mp4":
        _check_encoder(arguments.video)
    return Pictures(video, still, episode)


def draw_pictures(pictures: Pictures, recording: Recording, console: Console) -> None:
    """Draw the first of the recorded episodes, and name the files.

    Raises:
        OSError: If a file cannot be written.
    """
    episode = recording.episodes[0]
    if pictures.video is not None:
        from f110_fl.reporting.pictures.video import write_video

        write_video(pictures.video, recording, episode)
        console.out(
            f"Video           {pictures.video}  (episode {episode.number})", highlight=False
        )
    if pictures.still is not None:
        from f110_fl.reporting.pictures.still import write_still

        write_still(pictures.still, recording, episode)
        console.out(
            f"Still           {pictures.still}  (episode {episode.number})", highlight=False
        )


def _file(flag: str, text: str | None, suffixes: Sequence[str]) -> Path | None:
    """Return the file that a flag names, None without it."""
    if text is None:
        return None
    path = Path(text)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{flag}={text!r}: allowed: a file {' or '.join(suffixes)}")
    if path.is_dir():
        raise UserError(f"{flag}={text!r}: is a directory; allowed: a file")
    if os.path.lexists(path):
        raise UserError(f"{flag}={text!r}: is there already; remove it, or choose another name")
    if not path.parent.is_dir():
        raise UserError(f"{flag}={text!r}: no such directory: {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{flag}={text!r}: the directory cannot be written: {path.parent}")
    return path


def _check_encoder(text: str) -> None:
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # without it, or it without a program for this machine
        raise UserError(
            f"--video={text!r}: needs imageio-ffmpeg: pip install 'f110-fl[video]'; "
            "WebP and GIF need nothing more"
        ) from None
