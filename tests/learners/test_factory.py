"""From settings to learners: every entry of the table, and what is not in it."""

from typing import Any, Literal, get_args

import numpy as np
import pytest
from small import SMALL

from f110_fl.config.common import AlgorithmConfig
from f110_fl.config.learners import LearnerConfig, LstmConfig, PPOConfig
from f110_fl.config.scenario import Scenario
from f110_fl.learners.base import LearnerSetup
from f110_fl.learners.factory import LEARNERS, learner_class, make_learner
from f110_fl.training.checkpoint import checkpoint_metadata

D, A = 7, 2
OBSERVATION = (("lidar", D),)
SETUP = LearnerSetup(D, A, np.random.SeedSequence(0))
CONFIGS = [*(kind() for kind in LEARNERS), PPOConfig(lstm=LstmConfig())]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.algorithm)


class UnknownConfig(AlgorithmConfig):
    algorithm: Literal["unknown"] = "unknown"


def test_every_algorithm_of_a_scenario_has_a_learner() -> None:
    union, *_ = get_args(LearnerConfig)
    assert set(get_args(union)) == set(LEARNERS)


@every_config
def test_a_learner_has_the_networks_that_its_settings_and_its_policy_name(config: Any) -> None:
    learner = make_learner(config, SETUP)
    assert type(learner) is learner_class(config)
    assert learner.config is config
    names = learner.tensors().keys()
    assert config.acting <= {name.split("/")[1] for name in names}
    form = learner.policy_format(config, OBSERVATION)
    if form is None:
        assert config.lstm
    else:
        assert names >= set(form.names)
        assert {name.split("/")[1] for name in form.names} == config.acting


def test_settings_that_no_learner_takes_are_an_error_and_no_other_learners_file() -> None:
    message = "none of the learners takes UnknownConfig; there are those of: TD3Config, "
    with pytest.raises(TypeError, match=message):
        make_learner(UnknownConfig(), SETUP)
    learners = {"learners": {"car_0": UnknownConfig()}}
    scenario = Scenario.model_validate(SMALL).model_copy(update=learners)
    with pytest.raises(TypeError, match=message):
        checkpoint_metadata(scenario)


def test_random_streams_follow_from_the_seed_which_is_not_advanced() -> None:
    first, again = ([s.generate_state(2).tolist() for s in SETUP.streams(3)] for _ in range(2))
    assert first == again
    assert len({tuple(state) for state in first}) == 3
    assert SETUP.seed.n_children_spawned == 0
