"""TensorBoard: a folder of event files for each client and for the server."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.reporting.background import BackgroundSink
from f110_fl.reporting.values import Point
from f110_fl.rundir import RunDir

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FLUSH_INTERVAL = 10  # s that a value waits for its file at most


def check_installed() -> None:
    """Check that event files can be written.

    Raises:
        UserError: If the package is missing, with how to install it.
    """
    if find_spec("tensorboard") is None:
        raise UserError(
            "--tensorboard: the package tensorboard is not installed; "
            "pip install -e '.[tensorboard]' does that"
        )


class TensorBoardSink(BackgroundSink):
    """Writes the values of events into ``tensorboard/ROLE/``, over steps or rounds.

    A session is told of everything that is in the run's files, also of what an earlier one wrote.
    The event files of a role are therefore written anew: those of a resumed run have each value
    once, with those of a session that had no TensorBoard, and without those of a round that a crash
    undid.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory.
    """

    name: ClassVar[str] = "TensorBoard"

    def __init__(self, scenario: Scenario, rundir: RunDir) -> None:
        self._root = rundir.tensorboard
        self._writers: dict[str, SummaryWriter] = {}
        super().__init__(scenario)

    def record(self, point: Point) -> None:
        """Write the values of a point, all but the one that they are charted over."""
        if point.role not in self._writers:
            self._writers[point.role] = self._open(point.role)
        writer = self._writers[point.role]
        step = int(point.values[point.axis])
        for name, value in point.values.items():
            if name != point.axis:
                writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _open(self, role: str) -> SummaryWriter:
        from torch.utils.tensorboard.writer import SummaryWriter  # takes a second

        folder = self._root / role
        for path in folder.glob("events.out.tfevents.*"):
            os.truncate(path, 0)  # one that looks on would wait for a file that is gone
        # It forgets what it read from the other files.
        return SummaryWriter(str(folder), flush_secs=FLUSH_INTERVAL, purge_step=0)
