"""The account of differential privacy over rounds, kept by Flower's accountant (dp-accounting).

What is accounted for are Gaussian releases without amplification by sampling: the draw of a round's
clients depends on the scenario's seed, which is no secret. A client pays for the rounds in which
it is asked; epsilon is that of the client that was asked most often.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.privacy import PrivacyConfig
from f110_fl.errors import UserError

RELEASES: Final = "releases"
BACKEND: Final = "dp_accounting"


def check_installed() -> None:
    """Check that the accountant can be imported.

    Raises:
        UserError: If it is not installed.
    """
    if find_spec(BACKEND) is None:
        raise UserError(
            "federated.privacy: its account needs dp-accounting: pip install 'f110-fl[privacy]'"
        )


@lru_cache(maxsize=4096)
def epsilon(multiplier: float, delta: float, releases: int) -> float:
    """Return epsilon of Gaussian releases together (Mironov 2017; Balle et al. 2020, theorem 21).

    Args:
        multiplier: Standard deviation of the noise over the L2 sensitivity of a release.
        delta: Probability that the guarantee fails.
        releases: How many there are; 0 cost nothing.
    """
    if not releases:
        return 0.0
    from flwr.serverapp import (
        GaussianPrivacyEvent,
        NeighboringRelation,
        PrivacyConfig,
        RdpAccountant,
        SamplingMethod,
    )

    # Flower asks for a population even where no sampling amplifies: of one, who is asked.
    relation, sampling = NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION
    accountant = RdpAccountant(PrivacyConfig(delta, 1, relation, sampling))
    accountant.compose(GaussianPrivacyEvent(multiplier, 1, 1), releases)
    return min(accountant.get_epsilon(delta), sys.float_info.max)  # JSON knows no infinity


def affordable(privacy: PrivacyConfig, most: int) -> int:
    """Return how many rounds a client's budget allows, at most ``most``.

    Args:
        privacy: The mechanism; without a budget all are allowed.
        most: Rounds of the run.
    """
    low, high = 0, most
    while privacy.budget is not None and low < high:
        middle = (low + high + 1) // 2
        if epsilon(privacy.accounted_multiplier, privacy.delta, middle) <= privacy.budget:
            low = middle
        else:
            high = middle - 1
    return high if privacy.budget is None else low


class PrivacyAccount:
    """What the rounds of a run have cost its clients' privacy.

    Args:
        privacy: The mechanism.
        clients: Number of clients, N.
    """

    def __init__(self, privacy: PrivacyConfig, clients: int) -> None:
        self._privacy = privacy
        self._releases: NDArray[np.int64] = np.zeros(clients, np.int64)

    def count(self, asked: Iterable[int]) -> None:
        """Charge a round to the clients that were asked."""
        self._releases[list(asked)] += 1

    def spent(self) -> dict[str, Any]:
        """Return the account: releases, epsilon and delta, and epsilon with one release more."""
        most = int(self._releases.max())
        multiplier, delta = self._privacy.accounted_multiplier, self._privacy.delta
        return {
            "releases": most,
            "epsilon": epsilon(multiplier, delta, most),
            "delta": delta,
            "next_epsilon": epsilon(multiplier, delta, most + 1),
        }

    def state(self) -> dict[str, NDArray[np.int64]]:
        """Return what must be kept: releases by client (N,)."""
        return {RELEASES: self._releases.copy()}

    def load(self, state: Mapping[str, NDArray[np.int64]]) -> None:
        """Continue from a ``state()``.

        Raises:
            UserError: If there is none, or it is one of other clients.
        """
        found = state.get(RELEASES)
        if found is None or found.shape != self._releases.shape:
            raise UserError("federated.privacy: the run has no account of its earlier rounds")
        self._releases[:] = found


def exceeds(privacy: PrivacyConfig | None, spent: Mapping[str, Any] | None) -> bool:
    """Return whether one more round may cost a client more than the budget.

    Args:
        privacy: The mechanism; None: there is none.
        spent: `PrivacyAccount.spent`, as a round's line has it; None before the first round.
    """
    if privacy is None or privacy.budget is None:
        return False
    cost = epsilon(privacy.accounted_multiplier, privacy.delta, 1)
    return float(spent["next_epsilon"] if spent else cost) > privacy.budget


def ends(privacy: PrivacyConfig | None, spent: Mapping[str, Any] | None) -> bool:
    """Return whether the run ends here because of its budget; see `exceeds`."""
    return privacy is not None and privacy.at_budget == "stop" and exceeds(privacy, spent)


def told(privacy: PrivacyConfig | None, spent: Mapping[str, Any]) -> str:
    """Return an account in words: ``epsilon 4.73 of 8 (delta 1e-05)``."""
    of = f" of {privacy.budget:g}" if privacy and privacy.budget is not None else ""
    return f"epsilon {spent['epsilon']:.3g}{of} (delta {spent['delta']:g})"
