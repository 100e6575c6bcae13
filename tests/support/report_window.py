"""An open report page, as its tests use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replay_window import Replay


class Report(Replay):
    """An open page."""

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.run("return report.state()")
        return found

    def chart(self, name: str) -> dict[str, Any]:
        """What a chart shows."""
        found: dict[str, Any] = next(each for each in self.state["charts"] if each["id"] == name)
        return found

    def drawing(self, name: str) -> str:
        """A chart's lines, as text."""
        found: str = self.run(
            "return document.getElementById('chart-' + arguments[0]).querySelector('.plot svg svg')"
            ".innerHTML",
            name,
        )
        return found

    def settle(self) -> None:
        """Waits until every chart is drawn."""
        self.until("report.state().pending === 0")
        self.drawn()

    def point(self, name: str, share: float) -> None:
        """Moves the mouse to a place in a chart, from its left axis to its right end."""
        self.run(
            "const plot = document.getElementById('chart-' + arguments[0]).querySelector('.plot');"
            "plot.scrollIntoView({behavior: 'instant', block: 'center'});"
            "const axis = [...plot.querySelectorAll('path.grid')].at(-1).getBoundingClientRect();"
            "const clientX = axis.left + arguments[1] * axis.width, clientY = axis.top - 20;"
            "plot.dispatchEvent(new PointerEvent('pointermove', {clientX, clientY}))",
            name,
            share,
        )
        self.drawn()

    def slide(self, slider: str, value: int) -> None:
        """Moves a slider."""
        self.run(
            "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
            "slider.dispatchEvent(new Event('input'))",
            slider,
            value,
        )
        self.drawn()

    def pictures(self) -> list[str]:
        """What the time machine's canvases show."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll('.stage canvas')].map((each) => each.toDataURL())"
        )
        return found


Open = Callable[..., Report]
