"""Fits to logs of simulated cars: what is found, how surely, and what is left as given."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml

from f110_fl.calibration.drive_log import DriveLog, make_log
from f110_fl.calibration.fit import Fit, fit
from f110_fl.calibration.model import Model
from f110_fl.calibration.parameters import NAMES, mean_delay, searched, time_constant
from f110_fl.calibration.settings import fragment, not_identified, summary, text
from f110_fl.calibration.simulated import Manoeuvres, Noise, record
from f110_fl.calibration.windows import cut
from f110_fl.errors import UserError
from sim.config import HeterogeneityConfig, VehicleConfig

DT = 0.01
SATURATING = {"tyre": {"kind": "saturating"}}
GIVEN = VehicleConfig.model_validate(SATURATING)
TRUE = VehicleConfig.model_validate(
    SATURATING
    | {"speed_lag": 0.12, "speed_gain": 0.95, "acceleration_max": 7.0, "steer_gain": 0.93}
    | {"steer_trim": 0.02, "steer_rate_max": 2.5, "command_delay": 4, "friction": 0.8}
    | {"stiffness_front": 5.2, "stiffness_rear": 6.1}
)


@pytest.fixture(scope="module")
def log() -> DriveLog:
    return record(TRUE, np.random.default_rng(5), seconds=24.0)


@pytest.fixture(scope="module")
def found(log: DriveLog) -> Fit:
    return fit(log, GIVEN, DT)


def test_the_true_values_are_near_and_within_the_intervals(found: Fit) -> None:
    inside = 0
    for name in NAMES:
        e, true = found.estimate(name), getattr(TRUE, name)
        assert not e.missing
        assert e.low <= e.value <= e.high
        assert abs(e.value - true) <= 1.5 * (e.high - e.low)
        inside += e.low <= true <= e.high
    assert inside >= len(NAMES) - 2  # of 20 intervals, one misses
    assert found.noise[3] == pytest.approx(0.05, rel=0.15)  # m/s, of the log's noise
    assert (found.noise < found.before)[:5].all()


def test_the_tremble_of_the_simulators_servo_is_found_and_told(found: Fit, log: DriveLog) -> None:
    """It never rests: in each step the wheels turn by what the rate allows."""
    assert found.trembles
    turn = DT * TRUE.steer_rate_max
    jumps = np.abs(np.diff(found.steering))
    assert np.median(jumps) == pytest.approx(turn, rel=0.1)
    true = Model(log, found.windows, GIVEN, DT).trembled(searched(TRUE, DT))
    assert np.mean(np.abs(found.steering - true) < 0.1 * turn) > 0.98
    assert "servo trembles" in text(summary(found, log, GIVEN, DT))


def test_a_servo_that_all_but_stops_at_its_target_is_not_said_to_tremble() -> None:
    """As a real one does; here in steps of 1 ms, of which its commands come late by 40."""
    delays = {"command_delay": 40, "steer_delay": 10 * TRUE.steer_delay}
    car = TRUE.model_copy(update=delays)
    log = record(car, np.random.default_rng(5), seconds=14.0, physics_step=0.001)
    found = fit(log, GIVEN, DT)
    assert not found.trembles
    for name in ("steer_gain", "steer_trim", "steer_rate_max", "command_delay"):
        e, true = found.estimate(name), getattr(TRUE, name)
        assert not e.missing
        assert abs(e.value - true) <= 0.75 * (e.high - e.low)


@pytest.mark.parametrize(
    "seed",
    [
        4,  # the squares are least at a friction of 0.48, and as good as that at the true one
        5,  # and all but the same from there to infinity
    ],
)
def test_a_short_and_gentle_log_does_not_tell_the_friction(seed: int) -> None:
    gentle = Manoeuvres(lateral=2.0)
    log = record(GIVEN, np.random.default_rng(seed), seconds=13.0, manoeuvres=gentle)
    estimate = fit(log, GIVEN, DT).estimate("friction")
    assert estimate.missing == "the log does not identify it"
    assert estimate.value == GIVEN.friction


def test_settings_go_into_a_scenario(found: Fit, log: DriveLog) -> None:
    parts = yaml.safe_load(fragment(found, log, GIVEN, DT))
    vehicle = VehicleConfig.model_validate(parts["vehicle"])
    assert vehicle.tyre.kind == "saturating"
    assert vehicle.command_delay == round(found.estimate("command_delay").value)
    assert vehicle.friction == pytest.approx(found.estimate("friction").value, abs=1e-5)
    ranges = HeterogeneityConfig.model_validate_json(str(parts["heterogeneity"]).replace("'", '"'))
    low, high = ranges.command_delay or (0, 0)
    assert low <= vehicle.command_delay <= high
    assert not_identified(found) == ""
    result = summary(found, log, GIVEN, DT)
    assert [row["name"] for row in result["parameters"]] == list(NAMES)
    assert result["vehicle"] == parts["vehicle"]


def test_what_a_log_does_not_identify_stays_as_given() -> None:
    """Nothing of tyres and of the servo's rate, driving straight on at a changing speed."""
    quiet = Noise(0.01, 0.01, 0.05, 0.03)
    straight = Manoeuvres(slowest=1.0, fastest=4.0, lateral=0.0)
    log = record(TRUE, np.random.default_rng(1), seconds=15.0, noise=quiet, manoeuvres=straight)
    found = fit(log, GIVEN, DT)
    left = {e.name for e in found.estimates if e.missing}
    assert {"steer_gain", "steer_rate_max", "friction"} <= left
    assert not {"speed_lag", "speed_gain", "steer_trim"} & left
    assert found.estimate("friction")[1:5] == (GIVEN.friction,) * 4
    words = not_identified(found)
    assert words.startswith("Left as given: ")
    assert "friction (1.0489)" in words
    assert f"# {words}" in fragment(found, log, GIVEN, DT)
    assert "friction" not in yaml.safe_load(fragment(found, log, GIVEN, DT))["heterogeneity"]


def test_a_log_with_too_little_driving_is_refused(log: DriveLog) -> None:
    short = log.times < 8.0
    part = make_log("short", log.times[short], log.measured[short], *log[3:5])
    with pytest.raises(UserError, match=r"short: [67]\.0 s of driving faster than 0\.5 m/s"):
        cut(part, 1.0, DT)


def test_windows_with_gaps_or_standing_are_left_out(log: DriveLog) -> None:
    whole = cut(log, 1.0, DT)
    measured = log.measured.copy()
    measured[(log.times > 5.0) & (log.times < 7.0), 3] = 0.1  # stands
    kept = ~((log.times > 10.0) & (log.times < 10.6))
    part = make_log("log", log.times[kept], measured[kept], *log[3:5])
    fewer = cut(part, 1.0, DT)
    assert 2 <= len(whole.first) - len(fewer.first) <= 4
    starts = fewer.edges[fewer.first]
    assert not ((starts > 5.6) & (starts < 6.4)).any()
    at = fewer.edges[fewer.first[:, None] + fewer.steps] + DT * fewer.shares
    assert at[fewer.rows >= 0] == pytest.approx(part.times[fewer.rows[fewer.rows >= 0]])


def test_windows_in_which_the_car_spins_are_left_out(log: DriveLog) -> None:
    """For half a second it turns once about itself, and goes on as it went."""
    measured = log.measured.copy()
    spin = (log.times > 8.2) & (log.times < 8.7)
    measured[spin, 2] += np.linspace(0.0, math.tau, np.count_nonzero(spin))
    whole, fewer = cut(log, 1.0, DT), cut(log._replace(measured=measured), 1.0, DT)
    lost = whole.edges[np.setdiff1d(whole.first, fewer.first)]
    assert 1 <= len(lost) <= 2
    assert ((lost > 7.2) & (lost < 8.7)).all()


@pytest.mark.parametrize("lag", [0.0, 0.004, 0.02, 0.3])
def test_a_lag_is_found_from_what_it_delays(lag: float) -> None:
    """As the mean of the simulator's filter: sum of k a^k (1 - a), with a = exp(-dt / lag)."""
    share = math.exp(-DT / lag) if lag else 0.0
    mean = DT * sum(k * share**k * (1.0 - share) for k in range(2000))
    assert mean_delay(lag, DT) == pytest.approx(mean, abs=1e-9)
    assert time_constant(mean_delay(lag, DT), DT) == pytest.approx(lag, abs=1e-9)
