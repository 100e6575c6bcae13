"""Files of policies by themselves, without learners that have written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save_file

from sim.policy import Policy, policy_metadata


def save_policy(path: Path, policies: Mapping[str, Policy]) -> None:
    """Write policies, by agent."""
    tensors = {
        f"{agent}/{name}": tensor
        for agent, policy in sorted(policies.items())
        for name, tensor in sorted(policy.tensors.items())
    }
    save_file(tensors, path, policy_metadata({a: policy.form for a, policy in policies.items()}))
