"""The scenario of a resumed run: its own, perhaps with more episodes."""

from __future__ import annotations

from collections.abc import Sequence

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_file
from f110_fl.loading.overrides import Override
from f110_fl.loading.scenarios import read_resolved
from f110_fl.reporting.summary import can_extend, completed_rounds
from f110_fl.rundir import RunDir


def resumed_scenario(rundir: RunDir, overrides: Sequence[Override]) -> Scenario:
    """Return the scenario of a run to resume; the overrides may only set its episodes.

    Raises:
        UserError: If the directory contains no run of this version, or the run cannot be extended.
    """
    if not is_file(rundir.config):
        raise UserError(f"--resume={str(rundir.root)!r}: no run there (no config.json)")
    scenario = read_resolved(rundir.config)
    for override in overrides:
        scenario = _extended(scenario, rundir, override)
    return scenario


def _extended(scenario: Scenario, rundir: RunDir, override: Override) -> Scenario:
    """Return the scenario with more episodes, which must not change completed rounds."""
    episodes = int(str(override.value))
    if episodes < scenario.episodes:
        raise UserError(f"{override.name}: allowed: at least the run's {scenario.episodes}")
    ended = completed_rounds(rundir) == scenario.rounds
    if ended and not can_extend(scenario) and episodes > scenario.episodes:
        interval = scenario.federated.round_interval
        cut_short = scenario.episodes % interval
        raise UserError(
            f"{override.name}: the run ended with a round of {cut_short} episodes "
            f"instead of {interval}; start a new one"
        )
    return scenario.model_copy(update={"episodes": episodes})
