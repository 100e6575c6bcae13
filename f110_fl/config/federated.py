"""Settings of the federation: strategy, privacy, what is shared."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated, Any, Literal, cast

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from f110_fl.config.asynchronous import AsynchronousConfig
from f110_fl.config.common import Fraction, Positive, by_shape, check_placeholders
from f110_fl.config.keys import overlaps, parse_key
from f110_fl.config.privacy import PrivacyConfig
from sim.config import Config

OptimizerStrategy = Literal["local", "average", "reset", "average_second_moment"]
Weighting = Annotated[
    Annotated[Literal["equal", "env_steps"], Tag("scalar")]
    | Annotated[tuple[Positive, ...], Tag("list")],
    by_shape("scalar", "list"),
]
Share = Literal["all", "actor", "all_but_normaliser", "all_but_head"]
Compression = Literal["none", "float16", "int8"]
EvaluateOn = Literal["none", "server", "clients", "both"]
Mode = Literal["synchronous", "asynchronous"]

KeepRounds = Annotated[
    Annotated[int, Field(ge=1, le=1_000_000_000), Tag("number")]
    | Annotated[Literal["all", "best"], Tag("word")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "number"),
]

PLAIN_MEANS = ("fedavg", "fedprox")  # strategies whose result is the mean of what clients sent
VARIED = ("env", "evaluation")  # the sections of a scenario in which clients may differ


class FedAvgConfig(Config):
    """Weighted mean (McMahan et al. 2017)."""

    name: Literal["fedavg"] = Field("fedavg", description="Selects this strategy. [-]")


class FedAvgMConfig(Config):
    """Server momentum (Hsu et al. 2019)."""

    name: Literal["fedavgm"] = Field("fedavgm", description="Selects this strategy. [-]")
    learning_rate: Positive = Field(1.0, description="Step size of the server. [-]")
    momentum: Fraction = Field(0.9, description="Momentum of the server. [-]")


class _AdaptiveConfig(Config):
    learning_rate: Positive = Field(0.1, description="Step size eta of the server. [-]")
    beta_1: float = Field(0.9, ge=0, lt=1, description="Decay rate of the first moment. [-]")
    beta_2: float = Field(0.99, ge=0, lt=1, description="Decay rate of the second moment. [-]")
    tau: Positive = Field(1e-3, description="Degree of adaptivity. [-]")


class FedAdamConfig(_AdaptiveConfig):
    """Adam on the server (Reddi et al. 2021)."""

    name: Literal["fedadam"] = Field("fedadam", description="Selects this strategy. [-]")


class FedYogiConfig(_AdaptiveConfig):
    """Yogi on the server (Reddi et al. 2021)."""

    name: Literal["fedyogi"] = Field("fedyogi", description="Selects this strategy. [-]")


class FedMedianConfig(Config):
    """Coordinate-wise median (Yin et al. 2018)."""

    name: Literal["fedmedian"] = Field("fedmedian", description="Selects this strategy. [-]")


class FedTrimmedAvgConfig(Config):
    """Coordinate-wise trimmed mean (Yin et al. 2018)."""

    name: Literal["fedtrimmedavg"] = Field(
        "fedtrimmedavg", description="Selects this strategy. [-]"
    )
    cut: float = Field(0.2, ge=0, lt=0.5, description="Fraction that is cut off at either end. [-]")


class _ByzantineConfig(Config):
    malicious: int = Field(
        1, ge=0, le=10_000, description="Number of malicious clients to tolerate. [clients]"
    )


class KrumConfig(_ByzantineConfig):
    """The one update nearest to the others (Blanchard et al. 2017)."""

    name: Literal["krum"] = Field("krum", description="Selects this strategy. [-]")


class MultiKrumConfig(_ByzantineConfig):
    """The mean of the updates nearest to the others (Blanchard et al. 2017)."""

    name: Literal["multikrum"] = Field("multikrum", description="Selects this strategy. [-]")
    selected: int = Field(2, ge=1, le=10_000, description="Number of updates averaged. [clients]")


class BulyanConfig(_ByzantineConfig):
    """Krum's selection, then a trimmed mean (El Mhamdi et al. 2018)."""

    name: Literal["bulyan"] = Field("bulyan", description="Selects this strategy. [-]")


class FedProxConfig(Config):
    """Weighted mean of clients with a proximal term in their losses (Li et al. 2020)."""

    name: Literal["fedprox"] = Field("fedprox", description="Selects this strategy. [-]")
    proximal_mu: Positive = Field(0.01, description="Weight of the proximal term. [-]")


StrategyConfig = Annotated[
    FedAvgConfig
    | FedAvgMConfig
    | FedAdamConfig
    | FedYogiConfig
    | FedMedianConfig
    | FedTrimmedAvgConfig
    | KrumConfig
    | MultiKrumConfig
    | BulyanConfig
    | FedProxConfig,
    Field(discriminator="name"),
]


class RangeConfig(Config):
    """A number that each client draws for itself."""

    low: int | float = Field(ge=-1e18, le=1e18, description="Smallest number drawn. [of the key]")
    high: int | float = Field(ge=-1e18, le=1e18, description="Largest number drawn. [of the key]")

    @model_validator(mode="after")
    def _order(self) -> RangeConfig:
        if self.low > self.high:
            raise ValueError(f"low, {self.low:g}, is above high, {self.high:g}")
        return self


def _variation(value: Any, handler: ValidatorFunctionWrapHandler) -> RangeConfig | tuple[Any, ...]:
    """Raise one error for both kinds."""
    try:
        return cast("RangeConfig | tuple[Any, ...]", handler(value))
    except ValidationError:
        raise ValueError(
            f"found {value!r}; allowed: a list with one value per client, or a mapping of "
            "low and high, numbers in this order"
        ) from None


Values = Annotated[tuple[Any, ...], Field(min_length=1)]
Variation = Annotated[RangeConfig | Values, WrapValidator(_variation)]


class FederatedConfig(Config):
    """Federated averaging (McMahan et al. 2017) between clients."""

    enabled: bool = Field(True, description="Whether clients are averaged, or independent. [bool]")
    clients: int = Field(3, ge=1, le=10_000, description="Number of clients. [clients]")
    vary: dict[str, Variation] = Field(
        {},
        description="Settings that differ between clients, by dotted key under env or evaluation: "
        "a list with one value per client, or a range to draw from. [-]",
    )
    round_interval: int = Field(
        50, ge=1, le=1_000_000_000, description="Episodes per client and round. [episodes]"
    )
    mode: Mode = Field(
        "synchronous",
        description="Whether a round waits for its clients, or is one reply, of whoever is done. "
        "[-]",
    )
    asynchronous: AsynchronousConfig | None = Field(
        None, description="How replies are mixed in mode asynchronous; null: its defaults. [-]"
    )
    strategy: StrategyConfig = Field(FedAvgConfig(), description="Aggregation strategy. [-]")
    fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Fraction of the clients sampled per round, at least min_clients. [-]",
    )
    min_clients: int = Field(
        1, ge=1, le=10_000, description="Usable replies needed per round. [clients]"
    )
    max_update_norm: Positive | None = Field(
        None, description="Largest L2 norm of an update; null: no limit. [-]"
    )
    max_update_ratio: Annotated[float, Field(gt=1)] | None = Field(
        30.0,
        description="Largest L2 norm of an update, in medians of the round's, from three clients "
        "on; null: no limit. [-]",
    )
    privacy: PrivacyConfig | None = Field(
        None, description="Differential privacy, accounted for; null: none. [-]"
    )
    share: Share = Field("all_but_normaliser", description="Networks that are averaged. [-]")
    compression: Compression = Field(
        "none",
        description="How clients send differences to the global model: as tensors, or rounded, "
        "with error feedback. [-]",
    )
    weighting: Weighting = Field(
        "equal", description="Clients' weights: equal, by environment steps, or a list. [-]"
    )
    optimizer_strategy: OptimizerStrategy = Field(
        "local", description="Treatment of the optimizer moments at a sync. [-]"
    )
    average_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay, per round, of a running average of the global model, which is what "
        "is evaluated then; 0: none. [-]",
    )
    agents: tuple[str, ...] = Field((), description="Learners to average; empty: all. [names]")
    evaluate_on: EvaluateOn = Field(
        "none", description="Where the global model is evaluated after a round. [-]"
    )
    evaluate_every: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description="Rounds between evaluations of the global model. [rounds]",
    )
    checkpoint_after_sync: bool = Field(
        True, description="Whether to write the tensors of every round. [bool]"
    )
    keep_states: int = Field(
        0,
        ge=0,
        le=1_000_000_000,
        description="Rounds between copies of every client's state, from which later rounds can "
        "be computed again; 0: none. [rounds]",
    )
    keep_rounds: KeepRounds = Field(
        "all",
        description="Rounds whose tensors stay: the last so many, all, or the best one; the last "
        "and the best always do. [rounds]",
    )
    timeout: Positive | None = Field(
        None,
        description="Longest wait for the replies of a round; null: ten times as long as half of "
        "the clients took, at least 600, at most 86400. [s]",
    )
    connect_timeout: Positive = Field(
        300.0, description="Longest wait for all clients at the start. [s]"
    )
    root: str = Field(
        "outputs/{name}/{time}",
        min_length=1,
        description="Directory of the run; {name} and {time} are filled in. [path]",
    )

    @field_validator("vary")
    @classmethod
    def _keys(cls, vary: dict[str, Variation]) -> dict[str, Variation]:
        paths = {}
        for key in vary:
            path = parse_key(key)
            if path is None or len(path) < 2 or path[0] not in VARIED:
                sections = " or ".join(VARIED)
                raise ValueError(
                    f"found key {key!r}; allowed: a dotted key under {sections}, such as env.track"
                )
            paths[key] = path
        for one, other in combinations(paths, 2):
            if overlaps(paths[one], paths[other]):
                raise ValueError(f"{one} and {other} overlap; leave one out")
        return vary

    @property
    def evaluated_on_server(self) -> bool:
        """Whether the server evaluates the global model."""
        return self.evaluate_on in ("server", "both")

    @property
    def evaluated_on_clients(self) -> bool:
        """Whether clients evaluate the global model."""
        return self.evaluate_on in ("clients", "both")

    @property
    def mixed(self) -> AsynchronousConfig | None:
        """How single replies are mixed into the global model; None: rounds are averaged."""
        if self.mode == "synchronous":
            return None
        return self.asynchronous or AsynchronousConfig()

    @model_validator(mode="after")
    def _rules(self) -> FederatedConfig:
        self._check_privacy()
        self._check_asynchronous()
        if self.keep_rounds == "best" and not self.evaluated_on_server:
            raise ValueError(
                f"keep_rounds 'best' with evaluate_on {self.evaluate_on!r}: the server knows no "
                "best; allowed: evaluate_on 'server', 'both', or another keep_rounds"
            )
        if self.min_clients > self.clients:
            raise ValueError(f"min_clients {self.min_clients} exceeds clients {self.clients}")
        if isinstance(self.weighting, tuple) and len(self.weighting) != self.clients:
            raise ValueError(
                f"weighting lists {len(self.weighting)}, but clients is {self.clients}; "
                "allowed: one weight per client"
            )
        check_placeholders("root", self.root, ("name", "time"))
        return self

    def _check_privacy(self) -> None:
        """Refuse privacy together with what its noise would not fit."""
        if not self.privacy:
            return
        if self.optimizer_strategy not in ("local", "reset"):
            raise ValueError(
                f"privacy with optimizer_strategy {self.optimizer_strategy!r} would send moments "
                "that no noise protects; allowed: 'local', 'reset'"
            )
        if self.privacy.kind == "local":
            if self.compression != "none":
                raise ValueError(
                    f"privacy of kind 'local' with compression {self.compression!r} would send "
                    "what rounding takes off the noise with the next round; allowed: 'none'"
                )
            return
        if self.strategy.name not in PLAIN_MEANS:
            raise ValueError(
                f"privacy of kind 'central' with strategy {self.strategy.name!r}: its noise fits a "
                f"plain mean; allowed: {', '.join(map(repr, PLAIN_MEANS))}"
            )
        if self.weighting != "equal":
            raise ValueError(
                f"privacy of kind 'central' with weighting {self.weighting!r}: its noise fits "
                "clients that count equally; allowed: 'equal'"
            )

    def _check_asynchronous(self) -> None:
        """Refuse what needs several replies at a time, or a round of all clients."""
        mixed = self.mixed
        if mixed is None:
            if self.asynchronous is not None:
                raise ValueError(
                    "asynchronous with mode 'synchronous', which does not use it; allowed: mode "
                    "'asynchronous', or leave asynchronous out"
                )
            return
        if mixed.speeds and len(mixed.speeds) != self.clients:
            raise ValueError(
                f"asynchronous.speeds lists {len(mixed.speeds)}, but clients is {self.clients}; "
                "allowed: one speed per client, or none"
            )
        privacy = self.privacy.kind if self.privacy else None
        for name, value, allowed, why in (
            ("strategy", self.strategy.name, PLAIN_MEANS, "it would be given one reply at a time"),
            ("fraction", self.fraction, (1.0,), "every client has an order at any time"),
            ("min_clients", self.min_clients, (1,), "a round is one reply"),
            ("weighting", self.weighting, ("equal",), "a reply's weight is that of its age"),
            ("privacy", privacy, (None,), "its account is of rounds of all clients"),
            ("evaluate_on", self.evaluate_on, ("none", "server"), "clients are at work"),
            ("keep_states", self.keep_states, (0,), "a client is in few of the rounds"),
            (
                "optimizer_strategy",
                self.optimizer_strategy,
                ("local", "reset"),
                "moments of several ages do not fit one step count",
            ),
        ):
            if value not in allowed:
                words = ", ".join("null" if a is None else repr(a) for a in allowed)
                raise ValueError(
                    f"mode 'asynchronous' with {name} {value!r}: {why}; allowed: {words}"
                )
