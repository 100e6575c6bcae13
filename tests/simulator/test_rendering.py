"""Frames and windows: what is where, and that looking changes nothing."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled, ResetNeeded
from pydantic import ValidationError

from sim.config import CarConfig, CircleTrack, EnvConfig, LidarConfig, RenderConfig
from sim.envs import F110Env, F110ParallelEnv, F110VectorEnv
from sim.layout import YAW, X, Y
from sim.race import Race
from sim.rendering.renderer import CARS, CRASHED, FINISH, FREE, OUTLINE, WALL, Renderer

DRIVER = CarConfig(name="car", driver={"kind": "secondary_vicon"}).driver
SOLO = EnvConfig(
    track=CircleTrack(radius=6.0),
    cars=(CarConfig(name="car_0"), CarConfig(name="car_1", driver=DRIVER)),
    lidar=LidarConfig(beams=40, noise_std=0.0),
    max_steps=30,
)
DUEL = SOLO.model_copy(update={"cars": (CarConfig(name="car_0"), CarConfig(name="car_1"))})
SMALL = RenderConfig(width=240, height=160)


def race_at(poses: Any, config: EnvConfig = SOLO) -> Race:
    race = Race(config, num_envs=2)
    race.world.place(1, np.array(poses, np.float64), 0)
    return race


def pixel(frame: np.ndarray, at: Any) -> tuple[int, ...]:
    return tuple(frame[int(at[1]), int(at[0])].tolist())


# Frames


@pytest.mark.parametrize("follow", [None, "car_0", "car_1"])
@pytest.mark.parametrize("zoom", [None, 25.0, 60.0])
@pytest.mark.parametrize("yaw", [0.0, 0.7, 2.0, 4.0])
def test_cars_lie_where_they_are(follow: str | None, zoom: float | None, yaw: float) -> None:
    poses = np.array([[5.6, 2.0, yaw], [5.2, 3.5, 1.0]])
    race = race_at(poses)
    frame = Renderer(race, RenderConfig(width=700, height=500, follow=follow, zoom=zoom)).frame(1)
    assert frame.shape == (500, 700, 3)
    assert frame.dtype == np.uint8
    # The outer wall's circle of 7.5 m radius fits the smaller side, less a margin of 4 %.
    scale = zoom or (40.0 if follow else 0.96 * 500 / 15.0)
    centre = poses[int(follow[-1]), :2] if follow else np.zeros(2)
    for car, (x, y, heading) in enumerate(poses):
        direction = np.array([np.cos(heading), -np.sin(heading)])  # rows count downwards
        middle = np.array([350, 250]) + scale * (np.array([x, y]) - centre) * (1, -1)
        if not (20 <= middle[0] < 680 and 20 <= middle[1] < 480):
            continue
        half = scale * 0.58 / 2
        assert pixel(frame, middle) == CARS[car]
        assert pixel(frame, middle - 0.7 * half * direction) == CARS[car]  # the tail
        assert pixel(frame, middle + 0.7 * half * direction) == OUTLINE  # the nose
        aside = np.array([-direction[1], direction[0]]) * (scale * 0.31 / 2 + 3)
        assert pixel(frame, middle - aside) != CARS[car]
        assert pixel(frame, middle + aside) != CARS[car]


def test_a_small_scale_draws_cars_large_enough_to_see() -> None:
    race = race_at([[5.6, 2.0, 0.0], [5.2, 3.5, 1.0]])
    frame = Renderer(race, RenderConfig(zoom=4.0)).frame(1)
    middle = np.array([300 + 4 * 5.6, 300 - 4 * 2.0])
    assert pixel(frame, middle - (4, 0)) == CARS[0]


@pytest.mark.parametrize(("turn", "zoom"), [(0.0, 12.0), (0.4, 31.0), (-2.0, 3.0), (0.4, None)])
def test_walls_are_those_of_the_distance_field(turn: float, zoom: float | None) -> None:
    race = race_at([[5.6, 2.0, 0.0], [5.2, 3.5, 1.0]])
    x, y, _ = race.track.origin
    race.tracks = (dataclasses.replace(race.track, origin=(x + 1.0, y - 2.0, turn)),)
    renderer = Renderer(race, RenderConfig(width=300, height=220, zoom=zoom))
    frame = renderer.frame(1)
    columns, rows = np.meshgrid(np.arange(300) + 0.5, np.arange(220) + 0.5)
    view = renderer.view(1)
    origin, unit = view.to_pixels(np.array([[0.0, 0.0], [1.0, 0.0]]), view.middle)
    scale = unit[0] - origin[0]
    assert zoom is None or scale == pytest.approx(zoom)
    points = np.stack([(columns - origin[0]) / scale, (origin[1] - rows) / scale], axis=-1)
    free = race.track.wall_distance(points.reshape(-1, 2)).reshape(220, 300) > 0.5 / scale
    drawn_free, drawn_wall = (frame == FREE).all(axis=-1), (frame == WALL).all(axis=-1)
    assert (drawn_free | drawn_wall).mean() > 0.7  # the rest is on top of it
    assert drawn_free.any()
    assert drawn_wall.any()
    wrong = (drawn_free & ~free) | (drawn_wall & free)
    assert wrong.mean() < 1e-3  # pixels on the edge of a cell may go either way


def test_beams_end_where_they_hit() -> None:
    race = race_at([[5.6, 2.0, 1.9], [-5.2, -3.5, 5.5]])
    frame = Renderer(race, RenderConfig(width=600, height=600)).frame(1)
    x, y, yaw = race.world.arrays.state[1, 0, [X, Y, YAW]]
    angles = yaw + np.linspace(-2.35, 2.35, 40)
    scan = race.world.arrays.scan[1, 0]
    scale = 0.96 * 600 / 15.0
    columns = 300 + scale * (x + scan * np.cos(angles))
    rows = 300 - scale * (y + scan * np.sin(angles))
    found = [pixel(frame, at) == CARS[0] for at in zip(columns, rows, strict=True)]
    assert np.mean(found) > 0.9  # a label may hide some


def test_the_finish_line_is_drawn() -> None:
    race = race_at([[5.6, 2.0, 1.9], [-5.2, -3.5, 5.5]])
    frame = Renderer(race, RenderConfig(width=600, height=600)).frame(1)
    assert pixel(frame, (300 + 0.96 * 40 * 5.0, 300)) == FINISH


def test_a_crash_turns_the_outline_red() -> None:
    race = race_at([[5.6, 2.0, 1.9], [-5.2, -3.5, 5.5]])
    renderer = Renderer(race, SMALL)
    assert not (renderer.frame(1) == CRASHED).all(axis=-1).any()
    race.world.arrays.crashed[1, 0] = True
    assert (renderer.frame(1) == CRASHED).all(axis=-1).any()


def test_time_and_speed_are_shown() -> None:
    env = F110Env(SOLO, "rgb_array", SMALL)
    env.reset(seed=1)
    first = env.render()
    env.step(np.array([0.0, 1.0], np.float32))
    second = env.render()
    assert first is not None
    assert second is not None
    assert not np.array_equal(first[:20, :50], second[:20, :50])  # the time
    assert np.array_equal(env.render(), second)
    env.race.world.arrays.state[0, 0, 3] += 1.0
    assert not np.array_equal(env.render(), second)  # the speed


# Environments


def test_every_interface_gives_frames() -> None:
    env, parallel = F110Env(SOLO, "rgb_array", SMALL), F110ParallelEnv(SOLO, "rgb_array", SMALL)
    env.reset(seed=2)
    parallel.reset(seed=2)
    frame = env.render()
    assert frame is not None
    assert frame.shape == (160, 240, 3)
    assert np.array_equal(frame, parallel.render())
    vector = F110VectorEnv(SOLO, 3, render_mode="rgb_array", render_config=SMALL)
    vector.reset(seed=[1, 2, 3])
    frames = vector.render()
    assert frames is not None
    assert len(frames) == 3
    assert np.array_equal(frames[1], frame)
    kept = frame.copy()
    env.step(np.ones(2, np.float32))
    env.render()
    assert np.array_equal(frame, kept)  # frames are the caller's


def test_gymnasium_collects_frames() -> None:
    env = gymnasium.make("F110-v0", config=SOLO, render_mode="rgb_array_list", render_config=SMALL)
    env.reset(seed=1)
    env.step(np.ones(2, np.float32))
    frames = env.render()
    assert [frame.shape for frame in frames] == [(160, 240, 3)] * 2
    assert not np.array_equal(*frames)


def test_agents_of_a_race_share_its_frame() -> None:
    env = F110VectorEnv(DUEL, 4, render_mode="rgb_array", render_config=SMALL)
    env.reset(seed=1)
    for _ in range(3):
        env.step(np.ones((4, 2), np.float32) * [[0, 1], [0, 1], [0, 0], [0, 0]])
    frames = env.render()
    assert frames is not None
    assert frames[0] is frames[1]
    assert frames[2] is frames[3]
    assert not np.array_equal(frames[0], frames[2])


def rollout(env: Any, look: bool) -> list[bytes]:
    rng = np.random.default_rng(3)
    env.reset(seed=5)
    out = []
    for _ in range(70):
        done = False
        if isinstance(env, F110Env):
            *_, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 2))
            done = terminated or truncated
        else:
            env.step(rng.uniform(-1, 1, (2, 2)))
        if look:
            env.render()
        out.extend(part.tobytes() for part in (*env.race.world.arrays, *env.race.episodes))
        if done:
            env.reset()
    return out


@pytest.mark.usefixtures("pygame")
@pytest.mark.parametrize("mode", ["rgb_array", "human"])
@pytest.mark.parametrize("vector", [False, True])
def test_looking_changes_nothing(mode: str, vector: bool) -> None:
    noisy = SOLO.model_copy(update={"lidar": LidarConfig(beams=9, noise_std=0.1)})

    def make(mode: str | None) -> Any:
        if vector:
            return F110VectorEnv(noisy, 2, render_mode=mode, render_config=SMALL)
        return F110Env(noisy, mode, SMALL)

    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - must stay as it is
    watched = make(mode)
    assert rollout(watched, look=True) == rollout(make(None), look=False)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    watched.close()


def test_the_frame_rate_is_real_time() -> None:
    assert F110Env(SOLO).metadata["render_fps"] == pytest.approx(100.0)
    slow = SOLO.model_copy(update={"physics_step": 0.02, "physics_steps_per_action": 5})
    for env in (F110Env(slow), F110ParallelEnv(slow), F110VectorEnv(slow)):
        assert env.metadata["render_fps"] == pytest.approx(10.0)
        assert list(env.metadata["render_modes"]) == ["human", "rgb_array"]
    assert "render_fps" not in F110Env.metadata  # the classes are left alone


# Windows


@pytest.mark.parametrize("interface", [F110Env, F110ParallelEnv, F110VectorEnv])
def test_a_window_shows_every_step(interface: Any, pygame: Any) -> None:
    env = interface(SOLO, render_mode="human", render_config=SMALL)
    renderer = Renderer(env.race, SMALL)

    def shown() -> bool:
        data = pygame.image.tobytes(pygame.display.get_surface(), "RGB")
        return bool(data == renderer.frame(0).tobytes())

    env.reset(seed=1)
    assert shown()
    action = np.array([0.0, 1.0], np.float32)
    if interface is F110ParallelEnv:
        env.step({"car_0": action})
    else:
        env.step(action[None] if interface is F110VectorEnv else action)
    assert shown()
    assert env.render() is None
    assert shown()
    env.close()
    assert pygame.display.get_surface() is None
    env.close()


def test_a_missing_pygame_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.delitem(sys.modules, "sim.rendering.window", raising=False)
    with pytest.raises(DependencyNotInstalled, match=r'needs pygame: pip install "f110-fl\[rend'):
        F110Env(SOLO, "human")


# What is refused


@pytest.mark.parametrize("interface", [F110Env, F110ParallelEnv, F110VectorEnv])
def test_errors_are_one_clear_line(interface: Any) -> None:
    with pytest.raises(ValueError, match="must be None, 'human', 'rgb_array', found 'ansi'"):
        interface(SOLO, render_mode="ansi")
    with pytest.raises(ValueError, match=r"follow 'car_9': the cars are \['car_0', 'car_1'\]"):
        interface(SOLO, render_mode="rgb_array", render_config=RenderConfig(follow="car_9"))
    env = interface(SOLO, render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before render\(\)"):
        env.render()
    silent = interface(SOLO)
    silent.reset(seed=1)
    with pytest.warns(UserWarning, match="without a render mode"):
        assert silent.render() is None


@pytest.mark.parametrize("setting", [{"width": 0}, {"zoom": 0.0}, {"zoom": -1}, {"heigth": 100}])
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RenderConfig(**setting)
