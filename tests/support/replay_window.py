"""An open replay page, as its tests use it."""

from __future__ import annotations

from typing import Any

PATIENCE = 60  # s, until a condition holds


class Replay:
    """An open page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str, *arguments: Any) -> None:
        """Waits until an expression holds."""
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.02)
        wait.until(lambda _: self.run(f"return {script}", *arguments), script)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.run("return replay.state()")
        return found

    def drawn(self) -> None:
        """Waits until everything that has changed is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def key(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def seek(self, frame: int) -> None:
        self.run(
            "const scrubber = document.getElementById('scrubber'); scrubber.value = arguments[0];"
            "scrubber.dispatchEvent(new Event('input'))",
            frame,
        )
        self.drawn()

    def show(self, number: int) -> None:
        self.click(f"#episode-{number}")
        self.until("replay.state().number === arguments[0]", number)
        self.drawn()

    def choose(self, select: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.driver.find_element("id", select)).select_by_visible_text(text)

    def texts(self, selector: str) -> list[str]:
        elements = self.driver.find_elements("css selector", selector)
        return [element.text for element in elements]

    def picture(self) -> str:
        found: str = self.run("return document.getElementById('track').toDataURL()")
        return found

    def pixel(self, left: float, top: float) -> list[int]:
        """Red, green, blue of the canvas at a point, CSS pixels."""
        found: list[int] = self.run(
            "const canvas = document.getElementById('track'), ratio = devicePixelRatio;"
            "const [x, y] = [arguments[0] * ratio, arguments[1] * ratio];"
            "return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)",
            left,
            top,
        )
        return found

    def problems(self) -> list[Any]:
        """What the console has shown since the last time.

        Left out is advice on reading pixels often, which only these tests do.
        """
        log = self.driver.get_log("browser")
        return [entry for entry in log if "getImageData" not in entry["message"]]
