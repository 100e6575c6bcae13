"""tools/compare_reference.py: what it finds, and what it refuses."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import yaml
from PIL import Image

from sim.config import VehicleConfig
from sim.layout import YAW, V
from sim.physics.dynamics import advance
from sim.physics.vehicle import vehicle_vector
from tools.compare_reference import main

PARAMETERS = {
    "mu": 1.0, "C_Sf": 4.7, "C_Sr": 5.4, "lf": 0.16, "lr": 0.17, "h": 0.07, "m": 3.5, "I": 0.05,
    "s_min": -0.4, "s_max": 0.4, "sv_min": -3.0, "sv_max": 3.0, "v_switch": 7.0, "a_max": 9.0,
    "v_min": -4.0, "v_max": 15.0,
}  # fmt: skip
CAR = VehicleConfig(
    friction=1.0, stiffness_front=4.7, stiffness_rear=5.4, front_axle=0.16, rear_axle=0.17,
    cg_height=0.07, mass=3.5, yaw_inertia=0.05, steer_max=0.4, steer_rate_max=3.0,
    switch_speed=7.0, acceleration_max=9.0, speed_min=-4.0, speed_max=15.0,
)  # fmt: skip


def trajectory(actions, start, dt):
    state, buffer, states = np.array(start), np.zeros(2), [np.array(start)]
    for steer, speed in actions:
        advance(state, buffer, vehicle_vector(CAR), steer, speed, dt)
        states.append(state.copy())
    return np.array(states)


@pytest.fixture
def recording():
    """A car without a size that reverses, and one that changes lanes from 8 m/s."""
    lane = [(0.1 * math.sin(i / 10), 8.0) for i in range(70)]
    return {
        "params_json": json.dumps(PARAMETERS),
        "dt": 0.005,
        "back/actions": np.array([(0.2, -3.0)] * 40),
        "back/states": trajectory([(0.2, -3.0)] * 40, np.zeros(7), 0.005),
        "lane/actions": np.array(lane),
        "lane/states": trajectory(lane, [1.0, 2.0, 0.05, 8.0, 6.28, 0.3, 0.02], 0.005),
    }


@pytest.fixture
def room(tmp_path):
    """A square room, 4 m to a side, around the origin."""
    pixels = np.full((100, 100), 255, np.uint8)
    pixels[:10], pixels[-10:], pixels[:, :10], pixels[:, -10:] = 0, 0, 0, 0
    Image.fromarray(pixels).save(tmp_path / "room.png")
    settings = {"image": "room.png", "resolution": 0.05, "origin": [-2.5, -2.5, 0.0]}
    path = tmp_path / "room.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def run(tmp_path, capsys):
    """Run the tool on arrays; returns its exit status, standard output and standard error."""

    def run(arrays, *options):
        path = tmp_path / "recording.npz"
        np.savez(path, **arrays)
        status = main([str(path), *map(str, options)])
        return status, *capsys.readouterr()

    return run


def test_trajectories_start_from_their_first_state(run, recording):
    recording["lane/states"][:, YAW] += 2 * np.pi  # the same angles
    recording["back/states"][7, V] += 0.25
    status, out, _ = run(recording)
    found = json.loads(out)
    assert status == 0
    assert found.keys() == {"back", "lane"}
    assert found["lane"]["max_abs_error"] < 1e-12
    assert found["back"]["max_abs_error"] == pytest.approx(0.25)


def test_scans_of_any_shape(run, room):
    # Half a turn, 5 beams: right, half right, ahead, half left, left.
    expected = [1.5, 1.5 * math.sqrt(2), 2.0, 2.0, 2.0]
    arrays = {
        "poses": np.array([[0.0, -0.5, 0.0]]),
        "scans": np.array([expected], np.float32),
        "fov": np.pi,
        "max_range": 2.0,
    }
    arrays["scans"][0, 1] = 2.0
    status, out, _ = run(arrays, "--map", room)
    found = json.loads(out)
    assert status == 0
    assert found["median_abs_error"] < 0.06
    arrays["scans"] += 0.5
    assert json.loads(run(arrays, "--map", room)[1])["median_abs_error"] > 0.44


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("lane/states"), "lane/states is missing"),
        (lambda r: r.pop("dt"), "dt is missing"),
        (lambda r: r.update(dt=-1.0), "dt must be positive"),
        (lambda r: r.update(params_json="{"), "params_json is not JSON"),
        (lambda r: r.update(params_json="{}"), "params_json: mu is missing"),
        (
            lambda r: r.update(params_json=json.dumps(PARAMETERS | {"m": -1})),
            "m: .*greater than 0.*found -1",
        ),
        (
            lambda r: r.update(params_json=json.dumps(PARAMETERS | {"s_min": -0.3})),
            "s_min must be -s_max",
        ),
        (lambda r: r.update({"back/actions": np.zeros((9, 3))}), r"shape \(9, 3\)"),
        (lambda r: r["back/states"].fill(np.nan), "finite numbers"),
        (lambda r: r.clear(), "neither trajectories"),
        (lambda r: r.update(poses=np.zeros((1, 3))), "--map must name the map"),
    ],
)
def test_bad_recordings_are_refused_in_one_line(run, recording, change, message):
    change(recording)
    status, out, err = run(recording)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(message, err)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no archive"])
def test_bad_files_are_refused_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "file.npz"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_missing_map_is_refused_in_one_line(run, tmp_path):
    arrays = {"poses": np.zeros((1, 3)), "scans": np.ones((1, 4)), "fov": 1.0, "max_range": 5.0}
    status, _, err = run(arrays, "--map", tmp_path / "nowhere.yaml")
    assert status == 2
    assert "nowhere.yaml" in err
    assert err.count("\n") == 1
