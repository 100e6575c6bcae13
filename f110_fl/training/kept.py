"""Earlier states of a client, from which a later round can be computed again.

They are copies of its state and its experience, ``kept/round_NNNNN/`` in its directory.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from f110_fl.rundir import STATE

KEPT: Final = "kept"
_ROUND: Final = "round_"
_COPYING: Final = ".copying"


def keep_state(directory: Path, number: int, every: int) -> None:
    """Keep a client's state of a round, once, if the round is one of those that are kept.

    Args:
        directory: The client's directory, in the state that the round left.
        number: The round.
        every: Rounds from one that is kept to the next; 0: none is.

    Raises:
        OSError: If it cannot be written; then there is no copy.
    """
    target = kept_state(directory, number)
    if not every or number % every or target.exists():
        return
    copying = directory / KEPT / _COPYING
    shutil.rmtree(copying, ignore_errors=True)
    copying.mkdir(parents=True)
    copy_state(directory, copying)
    copying.rename(target)


def copy_state(source: Path, target: Path) -> None:
    """Copy all that a client goes on from: its state, and the experience that belongs to it.

    Raises:
        OSError: If a file cannot be read or written.
    """
    for path in [source / STATE, *sorted(source.glob("*.replay"))]:
        shutil.copyfile(path, target / path.name)


def kept_state(directory: Path, number: int) -> Path:
    """Return the directory of the copy of a round's state."""
    return directory / KEPT / f"{_ROUND}{number:05d}"


def kept_rounds(directory: Path) -> list[int]:
    """Return the rounds whose state was kept, in order."""
    names = [path.name.removeprefix(_ROUND) for path in (directory / KEPT).glob(f"{_ROUND}*")]
    return sorted(int(name) for name in names if name.isdecimal())
