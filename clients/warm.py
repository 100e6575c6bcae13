"""Trainers that stay open in a process between rounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from f110_fl.config.scenario import Scenario
from f110_fl.rundir import RunDir

if TYPE_CHECKING:  # answering a query needs no torch
    from f110_fl.training.trainer import Coming, Trainer

# More would only cost memory: a worker serves few clients, each once in a round.
MOST: Final = 8


class WarmTrainers:
    """The trainers of some clients, by their directories.

    A trainer is used only while it equals the state in its directory, since another process may
    have served the client in the meantime.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._trainers: OrderedDict[Path, Trainer] = OrderedDict()

    def __iter__(self) -> Iterator[Trainer]:
        return iter(self._trainers.values())

    def take(
        self, scenario: Scenario, client_id: int, rundir: RunDir, coming: Coming | None = None
    ) -> Trainer:
        """Return a client's trainer in the state of its directory; it is no longer kept here.

        Args:
            scenario: The run's scenario.
            client_id: The client.
            rundir: The run's directory.
            coming: See `Trainer.reload`.
        """
        from f110_fl.training.trainer import Trainer

        directory = rundir.client(client_id)
        trainer = self._trainers.pop(directory, None)
        if not rundir.state(client_id).exists():  # it was removed: what is open is of nothing
            trainer = None
        if trainer is None and len(self._trainers) == self._most:
            # Clients are asked in turns: the one used last will be needed last.
            trainer = self._trainers.popitem()[1]
        if (
            trainer is None
            or trainer.scenario != scenario
            or trainer.own != scenario.for_client(client_id)
        ):
            return Trainer(scenario, client_id, directory)
        if trainer.directory != directory:
            trainer.switch_client(client_id, directory, coming)
        elif not trainer.is_current():  # another process has served the client since
            trainer.reload(coming)
        return trainer

    def keep(self, trainer: Trainer) -> None:
        """Keep a trainer for its next round."""
        self._trainers[trainer.directory] = trainer
        while len(self._trainers) > self._most:
            self._trainers.popitem(last=False)
