"""Models of any checkpoint that this project writes, loaded into a learner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from f110_fl.errors import UserError
from f110_fl.tensors import TensorName, owned

if TYPE_CHECKING:  # torch takes a second to import
    import torch

    from f110_fl.learners.base import Learner


def load_models(
    learner: Learner, agent: str, tensors: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Load an agent's models from a checkpoint of any kind that this project writes.

    What only learning needs (critics, targets, moments) may be missing, as it is from a global
    model of a federation that shares its actors.

    Raises:
        UserError: If the checkpoint has no model of the agent, or that of another learner.
    """
    own = owned(tensors, agent, "model")
    if not own:
        agents = sorted({TensorName.parse(name).agent for name in tensors})
        raise UserError(f"{path}: no model of {agent!r}; found: {', '.join(agents) or 'nothing'}")
    acting = learner.config.acting | {"normaliser"}
    parsed = map(TensorName.of_learner, learner.tensors())
    needed = {str(name) for name in parsed if name.kind == "model" and name.network in acting}
    missing = sorted(needed - own.keys())
    if missing:
        networks = sorted({TensorName.of_learner(name).network for name in own})
        raise UserError(
            f"{path}: the model of {agent!r} lacks {missing[0]!r} of the scenario's learner; "
            f"it has networks {', '.join(networks)}"
        )
    try:
        learner.load_tensors(own)
    except ValueError as error:
        raise UserError(
            f"{path}: another model of {agent!r} than the scenario's: {error}"
        ) from None
