"""A window that shows frames, with pygame."""

from __future__ import annotations

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray


class Window:
    """Shows frames at a steady rate, in a window that opens with the first one.

    Args:
        title: Title of the window.
        rate: Frames shown in a second, at most.
    """

    def __init__(self, title: str, rate: float) -> None:
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled(
                'render_mode "human" needs pygame: pip install "f110-fl[render]"'
            ) from error
        self._pygame = pygame
        self._title = title
        self._rate = rate
        self._clock = pygame.time.Clock()
        self._open = False

    def show(self, frame: NDArray[np.uint8]) -> None:
        """Show a frame, and wait until it is due.

        Args:
            frame: (height, width, 3) red, green, blue.

        Raises:
            pygame.error: If there is no display.
        """
        pygame, size = self._pygame, (frame.shape[1], frame.shape[0])
        if not self._open:
            pygame.display.init()
            pygame.display.set_mode(size)
            pygame.display.set_caption(self._title)
            self._open = True
        pygame.event.pump()  # otherwise the system considers the window hung
        image = pygame.image.frombuffer(frame.tobytes(), size, "RGB")
        pygame.display.get_surface().blit(image, (0, 0))
        pygame.display.flip()
        self._clock.tick(self._rate)

    def close(self) -> None:
        """Close the window; showing another frame opens it again."""
        if self._open:
            self._pygame.display.quit()
            self._open = False
