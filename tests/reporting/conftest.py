"""A real Chromium, without a window, for pages that are tested as they are read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


def _program(*names: str) -> str:
    """Returns where one of these programs is; without any, the test is skipped."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip(f"{names[0]} is not installed (Debian: apt-get install chromium chromium-driver)")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Selenium driver of the system's Chromium; nothing is downloaded."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    service = webdriver.ChromeService(_program("chromedriver"))
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")  # containers have little of it
    options.add_argument("--force-device-scale-factor=1")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox refuses to run as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
