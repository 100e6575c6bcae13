"""What keeps a car safe: every reason to stop, and how it starts."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from exported import Export, lap_scenario
from small import REPOSITORY

from f110_fl.robot.contract import ContractError
from f110_fl.robot.driver import Driver, Limits, Servo, Watchdog
from f110_fl.robot.policy import Policy
from f110_fl.robot.simulated import environment, simulate

ANGLES = (-2.35, 4.7 / 1079)
SCAN = np.full(1080, 3.0, np.float32)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("robot")
    learner = {"algorithm": "td3", "hidden": [16, 12]}
    return Export(root, lap_scenario(learner), seed=6).directory  # one that drives


def fed(directory: Path, time: float = 0.0, **limits: float) -> Driver:
    """Returns a driver that may go at a time."""
    driver = Driver(Policy(directory), Limits(**limits))
    driver.on_scan(time, SCAN, *ANGLES)
    driver.on_odometry(time, 1.0, 0.1)
    return driver


def test_it_stops_without_news(directory: Path) -> None:
    driver = Driver(Policy(directory), Limits(slow_start=0.0))
    assert driver.decide(0.0).reason == "no scan for 0.2 s"
    driver.on_scan(0.0, SCAN, *ANGLES)
    assert driver.decide(0.0).reason == "no odometry for 0.2 s"
    driver.on_odometry(0.0, 1.0, 0.1)
    assert driver.decide(0.1).reason == ""
    driver.on_odometry(0.3, math.nan, 0.1)  # no news
    driver.on_scan(0.3, SCAN, *ANGLES)
    assert driver.decide(0.3) == (0.0, 0.0, "no odometry for 0.2 s")
    driver.on_odometry(0.3, 1.0, 0.1)
    assert driver.decide(0.45).reason == ""
    assert driver.decide(0.6) == (0.0, 0.0, "no scan for 0.2 s")


def test_it_commands_what_the_policy_does(directory: Path) -> None:
    driver = fed(directory, slow_start=0.0)
    seen = Policy(directory).act(np.full(19, 3.0, np.float32))
    command = driver.decide(0.0)
    assert command.reason == ""
    assert command[:2] != seen  # it moves at 1 m/s, which the policy sees
    assert abs(command.steer) <= 0.4189
    assert 0.0 <= command.speed <= 4.0


def test_the_speed_is_capped_and_grows_slowly(directory: Path) -> None:
    free = fed(directory, slow_start=0.0).decide(0.0).speed
    assert free > 0.5
    assert fed(directory, slow_start=0.0, speed=0.5).decide(0.0).speed == 0.5
    driver = fed(directory, slow_start=1.0)
    speeds = []
    for k in range(25):
        driver.on_scan(k / 20, SCAN, *ANGLES)
        driver.on_odometry(k / 20, 1.0, 0.1)
        speeds.append(driver.decide(k / 20).speed)
    allowed = [4.0 * (k / 20 + 0.05) / 1.05 for k in range(20)]
    assert all(s <= a + 1e-9 for s, a in zip(speeds, allowed, strict=False))
    assert speeds[0] == pytest.approx(4.0 * 0.05 / 1.05)
    assert speeds[-1] == pytest.approx(free, abs=0.5)


def test_it_drives_only_while_the_switch_is_held(directory: Path) -> None:
    driver = fed(directory, slow_start=0.0, dead_man=True)
    assert driver.decide(0.0).reason == "nobody holds the dead-man switch"
    driver.on_dead_man(True)
    assert driver.decide(0.05).reason == ""
    driver.on_dead_man(False)
    assert driver.decide(0.1).speed == 0.0


def test_scans_that_do_not_fit_stop_it_until_one_does(directory: Path) -> None:
    told: list[str] = []
    driver = Driver(Policy(directory), Limits(slow_start=0.0), told.append)
    driver.on_odometry(0.0, 1.0, 0.1)
    driver.on_scan(0.0, SCAN[:500], -1.0, 0.004)
    assert "the scan covers -57.3 to 57.1 degrees" in driver.decide(0.0).reason
    driver.on_scan(0.0, SCAN, *ANGLES)
    assert driver.decide(0.0).reason == ""
    assert "1080 beams are read at the policy's 19" in told[1]
    broken = SCAN.copy()
    broken[::2] = math.nan
    driver.on_scan(0.1, broken, *ANGLES)
    assert "beams failed" in driver.decide(0.1).reason
    assert told[-1].startswith("stopped: ")


def test_a_reversed_scan_gives_the_same_command(directory: Path) -> None:
    ranges = np.linspace(0.5, 9.0, 1081, dtype=np.float32)
    commands = []
    for scan, angles in ((ranges, (-2.35, 4.7 / 1080)), (ranges[::-1], (2.35, -4.7 / 1080))):
        driver = Driver(Policy(directory), Limits(slow_start=0.0))
        driver.on_scan(0.0, scan, *angles)
        driver.on_odometry(0.0, 1.0, 0.1)
        commands.append(driver.decide(0.0))
    assert commands[0] == commands[1]


def test_the_servo_turns_at_its_rate_after_its_delay(directory: Path) -> None:
    contract = Policy(directory).contract  # 3.2 rad/s after 0.02 s
    servo = Servo(contract)
    servo.send(0.0, 0.3)
    assert servo.advance(0.02) == pytest.approx(0.0)
    assert servo.advance(0.05) == pytest.approx(3.2 * 0.03)
    servo.send(0.05, -0.1)  # takes effect at 0.07
    assert servo.advance(0.07) == pytest.approx(3.2 * 0.05)
    assert servo.advance(0.10) == pytest.approx(3.2 * 0.02)
    assert servo.advance(1.0) == pytest.approx(-0.1)


def test_the_watchdog_stops_a_car_that_nobody_commands() -> None:
    stopped = Event()
    watchdog = Watchdog(0.01, stopped.set)
    watchdog.start()
    assert stopped.wait(30.0)
    watchdog.close()


def test_a_policy_that_needs_more_is_refused(tmp_path: Path) -> None:
    learner = {"algorithm": "td3", "hidden": [8]}
    export = Export(tmp_path, lap_scenario(learner, observation=["lidar", "pose"]))
    with pytest.raises(ContractError, match="observes pose, which the node has no topics for"):
        Driver(Policy(export.directory), Limits())


def test_the_simulated_car_does_what_the_learner_did(tmp_path: Path) -> None:
    """With the LiDAR alone, the node sees what the learner did: it ends alike, step for step."""
    learner = {"algorithm": "td3", "hidden": [16, 12]}
    export = Export(tmp_path, lap_scenario(learner, observation=["lidar"]))
    policy = Policy(export.directory)
    env = environment(export.directory)
    done = simulate(policy, Limits(slow_start=0.0), env, 3, seed=5)
    from sim.race import Race

    race = Race(env)
    race.seed(0, 5)
    acting = export.evaluator.learners["car_0"].policy(1)
    for steps, outcome in zip(done.steps, done.outcomes, strict=True):
        race.next_episode(0)
        taken = 0
        while not race.episodes.over[0]:
            race.step(acting.act(race.episodes.observations[:, 0], np.zeros(1, np.int64))[:, None])
            taken += 1
        assert (taken, race.outcomes(0)["car_0"].name.lower()) == (steps, outcome)


def test_the_node_needs_neither_torch_nor_numba(directory: Path) -> None:
    """The program, without ROS: one line; and what it has imported by then is light."""
    command = [sys.executable, "-X", "importtime", "-m", "f110_fl.robot", "--policy", directory]
    result = subprocess.run(
        list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in lines}
    heavy = {"torch", "numba", "flwr", "pydantic", "scipy", "sim", "onnx", "onnxruntime"}
    assert "numpy" in imported
    assert imported & heavy == set()
    assert lines[-1].startswith("f110_fl.robot: rclpy is missing: source ROS 2 first")
