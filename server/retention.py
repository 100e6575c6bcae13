"""Which rounds' tensors stay on the disk."""

from __future__ import annotations

import logging

from f110_fl.config.federated import KeepRounds
from f110_fl.errors import UserError, system_error
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_metadata

log = logging.getLogger("flwr")

TENSORS = "*.safetensors"


class RoundFiles:
    """Removes the tensors of old rounds; ``metrics.json`` of every round stays.

    Nothing that is removed is needed to go on: that is in ``server.safetensors`` and in the
    clients' directories. A removal that was cut off is completed by the next call.

    Args:
        rundir: The run's directory.
        keep: ``federated.keep_rounds``.
    """

    def __init__(self, rundir: RunDir, keep: KeepRounds) -> None:
        self._rundir = rundir
        self._keep = keep
        self._held: set[int] | None = None  # rounds that may have tensors; None: not looked up

    def size(self, number: int) -> int:
        """Return the bytes of a round's tensors."""
        return sum(path.stat().st_size for path in self._rundir.round(number).glob(TENSORS))

    def prune(self, last: int) -> None:
        """Remove what need not stay after a committed round.

        Args:
            last: Its number; later rounds are not touched.
        """
        if self._keep == "all":
            return
        if self._held is None:
            self._held = set(self._rundir.numbered_rounds())
        self._held.add(last)
        newest = 1 if self._keep == "best" else self._keep
        best = self._best()
        for number in sorted(self._held):
            if number <= last - newest and number != best and self._remove(number):
                self._held.discard(number)

    def _remove(self, number: int) -> bool:
        """Remove a round's tensors, the global ones first, without which there is no round."""
        first = self._rundir.global_tensors(number)
        try:
            for path in (first, *sorted(self._rundir.round(number).glob(TENSORS))):
                path.unlink(missing_ok=True)
        except OSError as error:  # no reason to end a run
            log.warning("Tensors of round %d stay: %s", number, system_error(error))
            return False
        return True

    def _best(self) -> int | None:
        """Return the round of the server's best evaluation, None before the first."""
        try:
            return int(read_metadata(self._rundir.best)["round"])
        except (UserError, OSError, KeyError, ValueError):
            return None
