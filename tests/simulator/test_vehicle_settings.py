"""Models, integrators, controls, delays and differences of cars, and what they may not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from pydantic import ValidationError

from sim.config import CarConfig, EnvConfig, HeterogeneityConfig, LidarConfig, VehicleConfig
from sim.layout import SLIP, STATE_SIZE, STEER, YAW_RATE, V, X, Y
from sim.physics.dynamics import advance
from sim.physics.vehicle import C_SF, DELAY, DROPOUT, MASS, MU, NOISE_STD, vehicle_vector
from sim.race import Race

DT = 0.01


def drive(commands, *, start=None, dt=DT, **changes):
    """States (T + 1, 7) of a car under commands (T, 2), from rest unless told."""
    config = VehicleConfig(**changes)
    state = np.zeros(STATE_SIZE) if start is None else np.array(start, dtype=float)
    buffer = np.zeros(max(1, config.steer_delay))
    states = [state.copy()]
    for first, second in commands:
        advance(state, buffer, vehicle_vector(config), first, second, dt)
        states.append(state.copy())
    return np.array(states)


@pytest.mark.parametrize("delay", [0, 1, 2, 7])
def test_a_steering_target_takes_effect_after_the_delay(delay):
    steer = drive([(0.2, 0.0)] * 10, steer_delay=delay)[:, STEER]
    assert not steer[: delay + 1].any()
    assert steer[delay + 1] == pytest.approx(0.032)


@pytest.mark.parametrize("speed", [2.0, 9.0])
def test_the_kinematic_car_rolls_on_a_circle_at_any_speed(speed):
    states = drive([(0.16, speed)] * 3000, model="kinematic")[2000:]
    car = VehicleConfig()
    wheelbase = car.front_axle + car.rear_axle
    slip = math.atan(car.rear_axle / wheelbase * math.tan(0.16))
    radius = wheelbase / (math.tan(0.16) * math.cos(slip))
    assert states[:, SLIP] == pytest.approx(slip)
    assert states[:, YAW_RATE] == pytest.approx(speed / radius, rel=1e-6)
    assert np.ptp(states[:, X]) == pytest.approx(2 * radius, rel=0.01)


def test_both_models_agree_when_slow():
    commands = [(0.3 * math.sin(i / 20), 0.45) for i in range(300)]
    both = [drive(commands, model=model)[:, [X, Y]] for model in ("kinematic", "single_track")]
    assert np.abs(both[0] - both[1]).max() < 1e-6


def test_euler_is_of_first_order_and_meets_runge_kutta():
    start = [0, 0, 0, 4.0, 0, 0.8, 0]

    def end(dt, integrator):
        return drive([(0.0, 4.0)] * round(0.4 / dt), start=start, dt=dt, integrator=integrator)[-1]

    exact = end(0.0005, "rk4")
    errors = [np.abs(end(dt, "euler") - exact).max() for dt in (0.002, 0.001)]
    assert errors[0] / errors[1] == pytest.approx(2.0, abs=0.2)
    assert np.abs(end(0.01, "rk4") - exact).max() < errors[1]


def test_rates_act_at_once_and_end_at_the_limits():
    states = drive([(1.0, 2.0)] * 100, control="rates")
    assert states[1, [STEER, V]] == pytest.approx([0.01, 0.02])
    assert states[-1, STEER] == pytest.approx(0.4189)
    assert states[-1, V] == pytest.approx(2.0)
    wild = drive([(math.inf, math.inf)] * 900, control="rates", speed_max=6.0)
    assert wild[1, [STEER, V]] == pytest.approx([0.032, 0.0951])
    assert wild[:, V].max() == pytest.approx(6.0)
    assert wild[:, STEER].max() == pytest.approx(0.4189)
    assert np.isfinite(wild).all()


accelerations = st.lists(st.floats(-20, 20), min_size=1, max_size=20)
models = st.sampled_from(["single_track", "kinematic"])
integrators = st.sampled_from(["rk4", "euler"])


@examples(60)
@given(accelerations, st.floats(-5, 19), st.floats(-3, 3), models, integrators)
def test_speed_comes_from_the_motor_alone(asked, speed, rate, model, integrator):
    start = np.zeros(STATE_SIZE)
    start[V] = speed
    commands = [(rate, a) for a in asked for _ in range(10)]
    states = drive(commands, start=start, control="rates", model=model, integrator=integrator)
    gained = np.diff(states[:, V])
    given_ = np.array([a for _, a in commands])
    car = VehicleConfig()
    power = car.acceleration_max * np.minimum(1, car.switch_speed / np.maximum(states[:-1, V], 0.1))
    assert np.all(gained <= DT * np.maximum(0, np.minimum(given_, power)) + 1e-9)
    braking = (given_ <= 0) & (states[:-1, V] >= 0)
    assert np.all(gained[braking] <= 1e-12)  # coasting and braking never gain
    assert states[:, V].max() <= car.speed_max + 1e-9


@examples(40)
@given(st.floats(0, 19), st.floats(0, 1), st.floats(-0.4, 0.4), models)
def test_a_lower_target_never_gains_speed(speed, share, steer, model):
    start = np.zeros(STATE_SIZE)
    start[V] = speed
    states = drive([(steer, share * speed)] * 100, start=start, model=model)
    assert np.diff(states[:, V]).max() <= 1e-12


def race(cars=2, **changes) -> Race:
    vehicle = changes.pop("vehicle", VehicleConfig())
    entries = tuple(
        CarConfig(name=f"car_{i}", vehicle=vehicle, reverse=changes.get("reverse", True))
        for i in range(cars)
    )
    changes.pop("reverse", None)
    threads, num_envs = changes.pop("num_threads", 1), changes.pop("num_envs", 1)
    config = EnvConfig(cars=entries, lidar=LidarConfig(beams=12), **changes)
    return Race(config, num_envs=num_envs, num_threads=threads)


def test_actions_of_a_car_with_rates_are_rates():
    made = race(vehicle=VehicleConfig(control="rates"), cars=1)
    made.reset(0, 0)
    made.step([[[1.0, 0.5]]])
    assert made.world.arrays.state[0, 0, [STEER, V]] == pytest.approx([0.032, 0.5 * 0.0951])


def test_a_car_with_rates_and_without_reverse_stops_at_standstill():
    made = race(vehicle=VehicleConfig(control="rates"), cars=1, reverse=False)
    made.reset(0, 0)
    for brake in [1.0] * 10 + [-1.0] * 30:
        made.step([[[0.0, brake]]])
    assert made.world.arrays.state[0, 0, V] == pytest.approx(0.0, abs=1e-12)


def test_a_done_agent_with_rates_is_brought_to_a_stand():
    made = race(vehicle=VehicleConfig(control="rates"), end_when="all")
    made.reset(0, 0)
    for _ in range(30):
        made.step([[[0.0, 1.0], [0.1, 0.2]]])
    made.episodes.outcome[0, 0] = 3
    for _ in range(60):
        made.step([[[0.0, 1.0], [0.0, 0.0]]])
    assert made.world.arrays.state[0, 0, V] == pytest.approx(0.0, abs=1e-12)


def test_a_driver_needs_targets():
    with pytest.raises(ValidationError, match="'car_1' has a driver, which needs control: targets"):
        EnvConfig(
            cars=(
                CarConfig(name="car_0"),
                CarConfig(
                    name="car_1",
                    driver={"kind": "secondary_vicon", "target": "car_0"},
                    vehicle=VehicleConfig(control="rates"),
                ),
            )
        )


DIFFERENT = {
    "mass": (3.0, 4.0),
    "friction": (0.7, 1.1),
    "stiffness_front": (4.0, 5.0),
    "steer_delay": (0, 5),
    "lidar_noise_std": (0.0, 0.05),
    "lidar_dropout": (0.0, 0.2),
}
COLUMNS = {
    "mass": MASS, "friction": MU, "stiffness_front": C_SF,
    "steer_delay": DELAY, "lidar_noise_std": NOISE_STD, "lidar_dropout": DROPOUT,
}  # fmt: skip


def test_cars_draw_their_differences_at_reset_by_seed():
    made = race(heterogeneity=HeterogeneityConfig(**DIFFERENT), num_envs=40)
    for env in range(40):
        made.reset(env, env)
    for name, (low, high) in DIFFERENT.items():
        values = made.world.vehicles[:, :, COLUMNS[name]]
        assert values.min() >= low
        assert values.max() <= high
        assert np.ptp(values) > 0.7 * (high - low)
        assert len(np.unique(values[0])) == 2 or name == "steer_delay"
    assert set(made.world.vehicles[:, :, DELAY].ravel()) <= set(range(6))
    first = made.world.vehicles[3].copy()
    made.reset(7, 3)
    assert made.world.vehicles[7].tobytes() == first.tobytes()
    made.step(np.zeros((40, 2, 2)))


def test_without_differences_nothing_is_drawn():
    plain = race()
    plain.reset(0, 5)
    assert np.all(plain.world.vehicles[0] == vehicle_vector(VehicleConfig(), LidarConfig()))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"mass": (4.0, 3.0)}, "mass: the smallest, 4, is above the largest, 3"),
        ({"mass": (0.0, 3.0)}, "greater than 0"),
        ({"lidar_dropout": (0.0, 1.5)}, "less than or equal to 1"),
        ({"steer_delay": (0, 101)}, "less than or equal to 100"),
        ({"steer_delay": (0, 1.5)}, "integer"),
    ],
)
def test_impossible_differences_are_errors(settings_, message):
    with pytest.raises(ValidationError, match=message):
        HeterogeneityConfig(**settings_)


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_change_nothing_in_a_race(threads):
    races = [
        race(heterogeneity=HeterogeneityConfig(**DIFFERENT), num_envs=7, num_threads=count)
        for count in (1, threads)
    ]
    rng = np.random.default_rng(threads)
    for i in range(80):
        actions = rng.uniform(-1, 1, (7, 2, 2)) * (0.2, 0.4)
        for made in races:
            for env in range(7):
                if made.episodes.over[env]:
                    made.reset(env, 100 * i + env)
            made.step(actions)
        parts = [(*made.world.arrays, *made.episodes) for made in races]
        for a, b in zip(*parts, strict=True):
            assert a.tobytes() == b.tobytes()
