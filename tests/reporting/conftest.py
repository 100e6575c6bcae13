"""A real Chromium, without a window, for pages that are tested as they are read; reports for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_data
from report_run import Json
from report_window import Open, Report

from f110_fl.reporting.pages.report import page as page_of


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


@pytest.fixture(scope="session")
def one_run() -> Json:
    """A report of one long run."""
    return report_data.document()


@pytest.fixture(scope="session")
def six_runs() -> Json:
    """A report of six short runs in two groups."""
    return report_data.document(runs=6, episodes=1000, rounds=20)


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes and opens a report, and looks afterwards for errors in the console."""
    page = Report(browser)

    def open_(document: Json, width: int = 1280, height: int = 800, **device: Any) -> Report:
        path = tmp_path / "report.html"
        path.write_text(page_of(document), encoding="utf-8")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | device)
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]  # nothing scrolls slowly
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": still})
        browser.get(path.as_uri())
        page.until("document.documentElement.dataset.ready === '1'")
        page.settle()
        return page

    browser.get_log("browser")
    yield open_
    assert page.problems() == []
