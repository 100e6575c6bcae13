"""The scenario of a resumed run: its own, perhaps with more episodes or a larger budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from f110_fl.config.keys import join
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.files import is_file
from f110_fl.loading.overrides import Override
from f110_fl.loading.scenarios import dump_scenario, parse_resolved, read_resolved
from f110_fl.reporting.summary import can_extend, completed_rounds
from f110_fl.rundir import RunDir


def resumed_scenario(rundir: RunDir, overrides: Sequence[Override]) -> Scenario:
    """Return the scenario of a run to resume.

    The overrides may only set its episodes, the privacy budget, and which rounds' files are kept:
    nothing that completed rounds depend on.

    Raises:
        UserError: If the directory contains no run of this version, or the run cannot be extended.
    """
    if not is_file(rundir.config):
        raise UserError(f"--resume={str(rundir.root)!r}: no run there (no config.json)")
    scenario = read_resolved(rundir.config)
    for override in overrides:
        if override.path == ("episodes",):
            scenario = _extended(scenario, rundir, override)
        else:
            scenario = _with(scenario, override)
    return scenario


def _extended(scenario: Scenario, rundir: RunDir, override: Override) -> Scenario:
    """Return the scenario with more episodes, which must not change completed rounds."""
    episodes = int(str(override.value))
    if episodes < scenario.episodes:
        raise UserError(f"{override.name}: allowed: at least the run's {scenario.episodes}")
    ended = completed_rounds(rundir) == scenario.rounds
    if ended and not can_extend(scenario) and episodes > scenario.episodes:
        interval = scenario.federated.round_interval
        cut_short = scenario.round_episodes(scenario.rounds)
        raise UserError(
            f"{override.name}: the run ended with a round of {cut_short} episodes "
            f"instead of {interval}; start a new one"
        )
    return scenario.model_copy(update={"episodes": episodes})


def _with(scenario: Scenario, override: Override) -> Scenario:
    """Return the scenario with a setting that completed rounds do not depend on."""
    data = json.loads(dump_scenario(scenario))
    section: Any = data
    for key in override.path[:-1]:
        section = section[key]
        if section is None:
            raise UserError(f"{override.name}: the run has no {join(override.path[:-1])}")
    section[override.path[-1]] = override.value
    return parse_resolved(json.dumps(data), override.name)
