"""Central differential privacy: a round's release, and the end of a run at its budget."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord

from f110_fl.config.privacy import CentralPrivacyConfig
from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import record_of, values_of
from f110_fl.federation.privacy import clipped, noised, read_secret
from f110_fl.rundir import RunDir
from server.registry import sample_size


class BudgetReachedError(Exception):
    """One more round may exceed the privacy budget; the run can go on with a larger one."""


class CentralPrivacy:
    """Gaussian noise on the mean of clipped updates (McMahan et al. 2018, algorithm 1).

    The mean's denominator is fixed, by which one client moves it by no more than C / m: an asked
    client without a usable reply counts as one that did not move.

    Args:
        privacy: Clipping norm C and noise multiplier z.
        asked: Clients that a round asks, m.
        secret: See `f110_fl.federation.privacy.read_secret`.
    """

    def __init__(self, privacy: CentralPrivacyConfig, asked: int, secret: bytes) -> None:
        self._privacy = privacy
        self._asked = asked
        self._secret = secret

    def clip(self, networks: ArrayRecord, start: ArrayRecord) -> ArrayRecord:
        """Return what a client sent, its update clipped."""
        norm = self._privacy.clipping_norm
        return record_of(clipped(values_of(networks), values_of(start), norm))

    def release(
        self, number: int, mean: ArrayRecord, start: ArrayRecord, replies: int
    ) -> ArrayRecord:
        """Return what may be published of a round: its mean over all asked clients, with noise.

        Args:
            number: The round.
            mean: Of the usable replies, which were clipped.
            start: What they started from.
            replies: Their number.
        """
        before, share = values_of(start), replies / self._asked
        moved = {
            name: before[name].astype(np.float64)
            + share * (array.astype(np.float64) - before[name])
            for name, array in values_of(mean).items()
        }
        deviation = self._privacy.noise_multiplier * self._privacy.clipping_norm / self._asked
        return record_of(noised(moved, deviation, self._secret, number))


def central_privacy(scenario: Scenario, rundir: RunDir, *, begun: bool) -> CentralPrivacy | None:
    """Return the server's mechanism of privacy, None if there is none.

    Args:
        scenario: The run's scenario.
        rundir: The run's directory, with its secret.
        begun: See `f110_fl.federation.privacy.read_secret`.

    Raises:
        UserError: If the secret cannot be had.
    """
    privacy = scenario.federated.privacy
    if privacy is None or privacy.kind != "central":
        return None
    secret = read_secret(rundir.privacy_key, begun=begun)
    return CentralPrivacy(privacy, sample_size(scenario), secret)
