"""Encoders: networks from observations to features, before the hidden layers of other networks.

With ``learners.CAR.encoder`` every actor and critic of TD3, SAC and DQN has an encoder of its own,
whose parameters are the network's as all others are: trained, tracked by targets, averaged and
saved, as ``model/<network>/encoder.<parameter>``. Both critics of a `TwinCritic` share one.

Another package brings one as a part of its plugin (`sim.plugins`), ``encoders``: settings with a
field ``kind``, and an `EncoderMaker`, such as a class. In ``my_package/plugin.py``::

    from typing import Literal
    from pydantic import Field
    from sim.plugins import Part, Plugin
    from sim.settings import Config

    class BottleneckConfig(Config):
        \"\"\"A narrow layer that sees the LiDAR scan, before all that is observed.\"\"\"

        kind: Literal["bottleneck"] = Field("bottleneck", description="Selects this encoder. [-]")
        width: int = Field(8, ge=1, description="Units of the layer. [units]")

    PLUGIN = Plugin(encoders=(Part(BottleneckConfig, "my_package.networks:Bottleneck"),))

and in ``my_package/networks.py``::

    import torch
    from torch import nn
    from f110_fl.learners.networks.encoder import columns

    class Bottleneck(nn.Module):
        def __init__(self, config, parts, generator):
            super().__init__()
            self.scan = columns(parts, "lidar")
            beams = self.scan.stop - self.scan.start
            self.layer = nn.Linear(beams, config.width)
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -(beams**-0.5), beams**-0.5, generator=generator)
            self.features = config.width + sum(size for _, size in parts)

        def forward(self, observation):
            scan = self.layer(observation[:, self.scan]).tanh()
            return torch.cat((scan, observation), 1)

Then ``encoder: {kind: bottleneck, width: 4}`` may stand in the settings of a learner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own convention
from torch import Tensor, nn

from f110_fl.config.learners import ConvConfig
from f110_fl.errors import UserError
from f110_fl.learners.base import ObservationParts
from f110_fl.learners.networks.actor_critic import Encoder, draw_parameters
from sim.config import ObservationPart
from sim.plugins import PluginError, implementation
from sim.policy import ConvFormat
from sim.settings import Config


class EncoderMaker(Protocol):
    """What an encoder's settings lead to."""

    def __call__(self, config: Any, parts: ObservationParts, generator: torch.Generator) -> Any:
        """Return an encoder, on the CPU.

        Args:
            config: Its settings.
            parts: Names and sizes of the parts of an observation, in order.
            generator: Draws all its first parameters, so that the seed decides them. PyTorch's
                layers draw theirs by another one: they have to be drawn again.

        Returns:
            An ``nn.Module`` that maps observations (B, D) to features (B, F), float32, with an
            attribute ``features``, F. Observations are normalised if the learner's are; they may
            be views, for which ``reshape`` works and ``view`` may not. All its state are
            parameters, float32, which are all trained; constants are buffers with
            ``persistent=False``. Equal observations give equal features: no dropout. On a GPU,
            what it does is recorded and repeated: the host must not read values of tensors.

        Raises:
            ValueError: If it cannot be made with these settings and parts; one line says why.
        """
        ...


def columns(parts: ObservationParts, name: ObservationPart) -> slice:
    """Return where a part is in an observation.

    Args:
        parts: Names and sizes of the parts of an observation, in order.
        name: The part.

    Raises:
        ValueError: If it is not observed.
    """
    start = 0
    for part, size in parts:
        if part == name:
            return slice(start, start + size)
        start += size
    known = ", ".join(part for part, _ in parts)
    raise ValueError(f"{name} must be in the observation, found {known}")


class ConvEncoder(Encoder):
    """Convolutions along the LiDAR scan, with ReLU, then all else that is observed; no padding.

    Args:
        config: Its layers.
        parts: Names and sizes of the parts of an observation, in order.
        generator: Draws the initial weights.

    Attributes:
        features: F.

    Raises:
        ValueError: If no LiDAR is observed, or too few beams are for these layers.
    """

    def __init__(
        self, config: ConvConfig, parts: ObservationParts, generator: torch.Generator
    ) -> None:
        super().__init__()
        self._scan = columns(parts, "lidar")
        beams = length = self._scan.stop - self._scan.start
        self._strides = config.strides
        for kernel, stride in zip(config.kernels, config.strides, strict=True):
            if kernel > length:
                raise ValueError(f"{beams} beams are too few for these kernels and strides")
            length = (length - kernel) // stride + 1
        inputs = (1, *config.channels[:-1])
        shapes = list(zip(config.channels, inputs, config.kernels, strict=True))
        fan_ins = [inputs * kernel for _, inputs, kernel in shapes]
        self.weights = draw_parameters(shapes, fan_ins, generator)
        self.biases = draw_parameters([shape[:1] for shape in shapes], fan_ins, generator)
        others = sum(size for _, size in parts) - beams
        self.features = config.channels[-1] * length + others

    def forward(self, observation: Tensor) -> Tensor:
        """Map observations (B, D) to features (B, F)."""
        start, stop = self._scan.start, self._scan.stop
        x = observation[:, None, start:stop]  # (B, 1, beams)
        for weight, bias, stride in zip(self.weights, self.biases, self._strides, strict=True):
            x = F.conv1d(x, weight, bias, stride).relu_()
        return torch.cat((x.flatten(1), observation[:, :start], observation[:, stop:]), 1)


def conv_format(network: str, config: ConvConfig) -> ConvFormat:
    """Return the format of a network's `ConvEncoder`."""
    names = [f"model/{network}/encoder.{part}" for part in ("weights", "biases")]
    layers = tuple((f"{names[0]}.{i}", f"{names[1]}.{i}") for i in range(len(config.channels)))
    return ConvFormat(layers=layers, strides=config.strides)


# What makes the encoder of each kind of settings.
ENCODERS: Final[Mapping[type[Config], EncoderMaker]] = {ConvConfig: ConvEncoder}


def make_encoder(
    config: Config | None, parts: ObservationParts, generator: torch.Generator
) -> Encoder | None:
    """Return a new encoder, None without settings.

    Two are made, and one is tried, since another package's mistakes would else show late or never:
    as runs that differ with the same seed, or go on differently when they are resumed.

    Args:
        config: Its settings.
        parts: Names and sizes of the parts of an observation, in order.
        generator: Draws the initial weights.

    Raises:
        UserError: If it cannot be made, or is not what `EncoderMaker` promises.
        PluginError: If another package's cannot be imported.
    """
    if config is None:
        return None
    maker: EncoderMaker = implementation("encoders", ENCODERS, config)
    if not parts:
        raise UserError("encoder: what an observation consists of is not known")
    state = generator.get_state()
    try:
        tried = maker(config, parts, generator)
        generator.set_state(state)
        encoder: Encoder = maker(config, parts, generator)
        _compare(tried, encoder)
        _try(tried, sum(size for _, size in parts))
    except ValueError as error:
        kind = getattr(config, "kind", type(config).__name__)
        raise UserError(f"encoder {kind!r}: {error}") from error
    return encoder


def _compare(one: Any, other: Any) -> None:
    """Look at what two encoders consist of that should be equal.

    Raises:
        PluginError: If they are not, or not what `EncoderMaker` promises.
    """
    if not isinstance(one, nn.Module) or not isinstance(getattr(one, "features", None), int):
        found = type(one).__name__
        raise PluginError(f"an nn.Module with features, an int, is needed, found {found}")
    own, others = dict(one.named_parameters()), dict(other.named_parameters())
    for name in one.state_dict():
        if name not in own:
            raise PluginError(f"{name!r} is no parameter and would not be saved")
        if own[name].dtype != torch.float32 or not own[name].requires_grad:
            raise PluginError(f"parameter {name!r} must be float32 and trained")
        if not torch.equal(own[name], others[name]):
            raise PluginError(f"parameter {name!r} must be drawn by the generator that is given")


def _try(encoder: Encoder, observation_size: int) -> None:
    """Let an encoder, which may be spoilt, map some observations.

    Raises:
        PluginError: If it does not as `EncoderMaker` promises.
    """
    rows = torch.linspace(-1.0, 1.0, 3 * observation_size + 3).view(3, -1)[:, :-1]
    found, again = encoder(rows), encoder(rows)
    needed = (3, encoder.features)
    if found.shape != needed or found.dtype != torch.float32:
        raise PluginError(f"found {tuple(found.shape)} {found.dtype} features, needed are {needed}")
    if not torch.equal(found, again):
        raise PluginError("equal observations have different features")
    if found.requires_grad:
        found.sum().backward()
    for name, parameter in encoder.named_parameters():
        if parameter.grad is None:
            raise PluginError(f"parameter {name!r} has no influence on the features")
