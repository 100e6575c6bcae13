"""The page of a calibration in a real Chromium: tables, charts, and what is left as given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from f110_fl.calibration.fit import fit
from f110_fl.calibration.settings import fragment, summary
from f110_fl.calibration.simulated import Manoeuvres, record
from f110_fl.reporting.pages.calibration import series, write_calibration_page
from sim.config import VehicleConfig

TEXTS = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"


def test_what_was_fitted_is_drawn(browser: Any, tmp_path: Path) -> None:
    given = VehicleConfig.model_validate({"tyre": {"kind": "saturating"}})
    gentle = Manoeuvres(slowest=1.0, fastest=2.0, lateral=0.5)  # tells nothing of the friction
    log = record(given, np.random.default_rng(0), seconds=13.0, manoeuvres=gentle)
    found = fit(log, given, 0.01)
    result, settings = summary(found, log, given, 0.01), fragment(found, log, given, 0.01)
    path = tmp_path / "page.html"
    write_calibration_page(path, result, settings, found, log)
    browser.get_log("browser")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "1"
    assert browser.get_log("browser") == []
    assert browser.title == "simulated: calibration"

    def texts(selector: str) -> list[str]:
        return list(browser.execute_script(TEXTS, selector))

    known = [row for row in result["parameters"] if not row["missing"]]
    assert len(texts("#parameters tbody tr")) == 10
    assert len(texts("#parameters .interval svg")) == len(known) < 10
    assert len(texts("#parameters td.left")) == 10 - len(known)
    assert "friction" in texts("#notes")[0]
    assert texts("#charts h3") == ["Speed, m/s", "Yaw rate, rad/s", "Steering, rad"]
    assert texts("#settings") == [settings]
    drawn = series(found, log)
    assert drawn["windows"][-1][1] == len(drawn["times"]) == len(drawn["course"]["measured"][0])
    whole = browser.execute_script("return data.times.length")
    assert whole == len(drawn["times"])
