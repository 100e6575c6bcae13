"""Rendering as the environments' interfaces want it; drawing is imported only when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from gymnasium import logger
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from sim.config import EnvConfig, RenderConfig
from sim.race import Race

if TYPE_CHECKING:
    from sim.rendering.renderer import Renderer
    from sim.rendering.window import Window

RENDER_MODES: Final = ("human", "rgb_array")


def frame_rate(config: EnvConfig) -> float:
    """Actions for each second of simulated time, 1/s: at this rate, frames show real time."""
    return 1.0 / (config.physics_step * config.physics_steps_per_action)


class Display:
    """What an environment shows of its race.

    Args:
        race: The race.
        mode: "rgb_array": frames on demand; "human": a window that shows race 0 after every
            reset and step, in real time; None: nothing.
        config: What a frame shows.

    Raises:
        ValueError: If the mode is unknown, or the car to follow does not exist.
        DependencyNotInstalled: If the mode is "human" and pygame is missing.
    """

    def __init__(self, race: Race, mode: str | None, config: RenderConfig) -> None:
        if mode is not None and mode not in RENDER_MODES:
            modes = ", ".join(repr(known) for known in RENDER_MODES)
            raise ValueError(f"render_mode must be None, {modes}, found {mode!r}")
        self._race, self._mode, self._config = race, mode, config
        self._started = False
        self._renderer: Renderer | None = None
        self._window: Window | None = None
        if mode is not None:
            from sim.rendering.renderer import Renderer

            self._renderer = Renderer(race, config)
        if mode == "human":
            from sim.rendering.window import Window

            names = ", ".join(race.agents)
            tracks = race.tracks
            where = tracks[0].name if len(tracks) == 1 else f"{len(tracks)} tracks"
            self._window = Window(f"{where}: {names}", frame_rate(race.config))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy draws and opens its window anew."""
        return Display, (self._race, self._mode, self._config), {"_started": self._started}

    def update(self) -> None:
        """Take note of a reset or a step; in mode "human", show race 0."""
        self._started = True
        if self._window is not None and self._renderer is not None:
            self._window.show(self._renderer.frame(0))

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Draw every race; a window is redrawn.

        Returns:
            In mode "rgb_array" one (height, width, 3) uint8 frame for each race, otherwise None.

        Raises:
            ResetNeeded: If the environment has not been reset.
        """
        if not self._started:
            raise ResetNeeded("there is nothing to show: call reset() before render()")
        if self._renderer is None:
            logger.warn('render() without a render mode: choose "rgb_array" or "human"')
            return None
        if self._window is not None:
            self.update()
            return None
        return tuple(self._renderer.frame(env) for env in range(self._race.num_envs))

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()


class Rendered:
    """What the environments of one race do alike: they hold it, and show it.

    Attributes:
        metadata: The class's, and on an environment also ``render_fps``, its actions a second.
        race: The race; its world holds the state of all cars.
        render_mode: As given.
    """

    metadata: dict[str, Any]

    def _hold(self, race: Race, render_mode: str | None, config: RenderConfig) -> None:
        self.race, self.render_mode = race, render_mode
        self.metadata = self.metadata | {"render_fps": frame_rate(race.config)}
        self._display = Display(race, render_mode, config)

    def render(self) -> NDArray[np.uint8] | None:
        """Show the race.

        Returns:
            In mode "rgb_array" a frame, (height, width, 3) uint8. In mode "human" None: every
            reset and step shows itself in a window, in real time.

        Raises:
            ResetNeeded: If the environment has not been reset.
        """
        frames = self._display.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Close the window, if there is one."""
        self._display.close()
