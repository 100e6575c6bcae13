"""What the window uses of pygame, for machines without it: a display is an array."""

from __future__ import annotations

import types
from typing import Any

import numpy as np


class Surface:
    def __init__(self, size: tuple[int, int], data: bytes | None = None) -> None:
        shape = (size[1], size[0], 3)
        source = np.zeros(shape, np.uint8).tobytes() if data is None else data
        self.pixels = np.frombuffer(source, np.uint8).reshape(shape).copy()

    def blit(self, source: Surface, at: tuple[int, int]) -> None:
        assert at == (0, 0)
        self.pixels[:] = source.pixels


class Clock:
    def tick(self, framerate: float) -> int:
        assert framerate > 0
        return 0


def make_pygame() -> Any:
    shown: list[Surface] = []

    def set_mode(size: tuple[int, int]) -> Surface:
        shown[:] = [Surface(size)]
        return shown[0]

    pygame = types.ModuleType("pygame")
    pygame.time = types.SimpleNamespace(Clock=Clock)
    pygame.event = types.SimpleNamespace(pump=lambda: None)
    pygame.image = types.SimpleNamespace(
        frombuffer=lambda data, size, _: Surface(size, data),
        tobytes=lambda surface, _: surface.pixels.tobytes(),
    )
    pygame.display = types.SimpleNamespace(
        init=lambda: None,
        set_mode=set_mode,
        set_caption=lambda _: None,
        get_surface=lambda: shown[0] if shown else None,
        flip=lambda: None,
        quit=shown.clear,
    )
    return pygame
