"""Settings of asynchronous federation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from f110_fl.config.common import Positive
from sim.config import Config

Speed = Annotated[float, Field(ge=1e-3, le=1e3)]


class AsynchronousConfig(Config):
    """Each reply is mixed into the global model by its age (FedAsync, Xie et al. 2019)."""

    mixing: Annotated[Positive, Field(le=1)] = Field(
        0.6, description="Weight of a reply of staleness 0 in the global model, alpha. [-]"
    )
    power: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Exponent a: a reply's weight is mixing * (1 + staleness)^-a. [-]",
    )
    speeds: tuple[Speed, ...] = Field(
        (),
        description="Clients' speeds, of which a virtual clock makes the order of replies; empty: "
        "alike in a simulation, and deployed the replies as they arrive. [orders per unit]",
    )

    def weight(self, staleness: int) -> float:
        """Return a reply's weight (arXiv 1903.03934, algorithm 1 with the polynomial function).

        Args:
            staleness: Rounds that were closed between its order and itself.
        """
        return float(self.mixing * (1.0 + staleness) ** -self.power)

    def duration(self, client_id: int) -> float:
        """Return how long a client works at an order, by the virtual clock."""
        return 1.0 / self.speeds[client_id] if self.speeds else 1.0
