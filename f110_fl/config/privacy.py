"""Settings of differential privacy: the mechanism, and the budget of its account."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from f110_fl.config.common import Positive
from sim.config import Config


class _AccountedConfig(Config):
    """What is accounted for, over all rounds together."""

    delta: float = Field(1e-5, gt=0, lt=1, description="Probability that the guarantee fails. [-]")
    budget: Positive | None = Field(
        None, description="Largest epsilon, at delta, of a client in all rounds; null: none. [-]"
    )
    at_budget: Literal["stop", "warn"] = Field(
        "stop",
        description="Before a round that exceeds the budget: end the run, or only say it. [-]",
    )


class CentralPrivacyConfig(_AccountedConfig):
    """Central differential privacy: the server clips updates and adds noise to their mean."""

    kind: Literal["central"] = Field("central", description="Selects this mechanism. [-]")
    clipping_norm: Positive = Field(1.0, description="Largest L2 norm of an update. [-]")
    noise_multiplier: Positive = Field(1.0, description="Noise deviation over clipping_norm. [-]")

    @property
    def accounted_multiplier(self) -> float:
        """Noise deviation over the sensitivity of what is released."""
        return self.noise_multiplier


class LocalPrivacyConfig(_AccountedConfig):
    """Local differential privacy: every client clips its update and adds noise to it."""

    kind: Literal["local"] = Field("local", description="Selects this mechanism. [-]")
    clipping_norm: Positive = Field(1.0, description="Largest L2 norm of an update. [-]")
    sensitivity: Positive = Field(1.0, description="L2 sensitivity that the noise is for. [-]")
    epsilon: Positive = Field(1.0, description="Epsilon of a round, at that sensitivity. [-]")

    @property
    def deviation(self) -> float:
        """The noise's standard deviation (Dwork and Roth 2014, theorem A.1), as in Flower."""
        return self.sensitivity * math.sqrt(2.0 * math.log(1.25 / self.delta)) / self.epsilon

    @property
    def accounted_multiplier(self) -> float:
        """Noise deviation over the sensitivity of what is released.

        That is twice the norm: two clipped updates may point in opposite directions.
        """
        return self.deviation / (2.0 * self.clipping_norm)


PrivacyConfig = Annotated[CentralPrivacyConfig | LocalPrivacyConfig, Field(discriminator="kind")]
