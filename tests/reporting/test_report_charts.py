"""The report's charts and tables in a real Chromium: what choices, legends and keys change."""

from __future__ import annotations

import copy

import pytest
import report_data
from report_run import Json
from report_window import Open


def test_the_axis_changes_the_curves(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    seen = set()
    for axis in ("steps", "seconds", "episodes"):
        page.click(f"[data-axis={axis}]")
        page.settle()
        assert page.state["axis"] == axis
        seen.add(page.drawing("return"))
        page.point("return", 1.0)
        mean = one_run["runs"][0]["training"][-1]
        assert page.chart("return")["reading"]["x"] == mean[axis][-1]
    assert len(seen) == 3


def test_one_client_is_shown_with_its_quartiles(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    before = page.drawing("return")
    page.choose("client", "client 01")
    page.settle()
    assert page.state["client"] == 1
    assert [each["name"] for each in page.chart("return")["series"]] == ["client 01"]
    assert page.drawing("return") != before
    page.point("outcomes", 0.5)
    found = page.chart("outcomes")["reading"]
    curve = one_run["runs"][0]["training"][1]
    place = curve["episodes"].index(found["x"])
    outcomes = curve["agents"]["car_0"]["outcomes"]
    assert {each["key"].partition(":")[2]: each["value"] for each in found["values"]} == {
        name: shares[place] for name, shares in outcomes.items()
    }


def test_another_agent_is_shown(open_report: Open) -> None:
    agents = ("car_0", "car_1")
    page = open_report(report_data.document(agents=agents, episodes=500, rounds=8, replays=False))
    before = page.drawing("return"), page.texts("#findings dd")
    page.choose("agent", "car_1")
    page.settle()
    assert page.state["agent"] == "car_1"
    assert (page.drawing("return"), page.texts("#findings dd")) != before
    assert {each["id"] for each in page.state["charts"] if "loss:" in each["id"]} == {
        "loss:car_1/critic",
        "loss:car_1/actor",
    }


@pytest.mark.parametrize("share", [0.0, 0.21, 0.5, 0.83, 1.0])
def test_the_crosshair_reads_the_data(open_report: Open, one_run: Json, share: float) -> None:
    page = open_report(one_run)
    page.point("return", share)
    training = one_run["runs"][0]["training"]
    found = page.chart("return")["reading"]
    place = training[-1]["episodes"].index(found["x"])
    span = training[-1]["episodes"][-1]
    assert found["x"] / span == pytest.approx(share, abs=0.02)
    assert {each["key"]: each["value"] for each in found["values"]} == {
        "mean" if curve["client"] is None else f"client:{curve['client']}": curve["agents"][
            "car_0"
        ]["return"][place]
        for curve in training
    }
    assert page.chart("success")["reading"]["x"] == found["x"]  # beside it, at the same place
    (tip,) = page.texts("#chart-return .tip")
    assert tip.startswith(f"episode {found['x']:,}")
    assert page.run("return document.querySelector('#chart-return .tip').offsetHeight") < 200


def test_keys_read_a_chart(open_report: Open, one_run: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_report(one_run)
    page.run("document.querySelector('#chart-success .plot').focus()")
    page.key(Keys.END, Keys.ARROW_LEFT)
    page.drawn()
    mean = one_run["runs"][0]["training"][-1]
    assert page.chart("success")["reading"]["x"] == mean["episodes"][-2]
    said = page.run("return document.activeElement.getAttribute('aria-valuetext')")
    share = round(100 * mean["agents"]["car_0"]["outcomes"]["success"][-2])
    assert said.startswith(f"episode {mean['episodes'][-2]:,}: ")
    assert f"mean over clients {share}\u202f%" in said
    page.key(Keys.ESCAPE)
    page.drawn()
    assert page.chart("success")["reading"] is None


def test_losses_on_a_logarithmic_axis(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    ticks = (
        "return [...document.querySelectorAll('#chart-loss_car_0_critic .tick')]"
        ".map((each) => each.textContent)"
    )
    before, actor = page.drawing("loss_car_0_critic"), page.drawing("loss_car_0_actor")
    assert "0.1" not in page.run(ticks)
    page.click("#log")
    page.settle()
    assert page.chart("loss:car_0/critic")["log"]
    assert page.drawing("loss_car_0_critic") != before
    assert {"0.1", "1"} <= set(page.run(ticks))
    assert not page.chart("loss:car_0/actor")["log"]  # it is below zero
    assert page.drawing("loss_car_0_actor") == actor


def test_the_legend_hides_a_client_everywhere(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    before = page.drawing("return")
    page.click("#curve-legend [data-key='client:2']")
    page.settle()
    assert page.state["hidden"] == ["client:2"]
    for chart in page.state["charts"]:
        hidden = {each["key"]: each["hidden"] for each in chart["series"]}
        assert hidden.get("client:2", True)
        assert not any(value for key, value in hidden.items() if key != "client:2")
    assert page.drawing("return") != before
    page.click("#curve-legend [data-key='client:2']")
    page.settle()
    assert page.drawing("return") == before


def test_smoothing_is_only_drawn(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    smooth = page.drawing("success")
    page.point("success", 0.4)
    read = page.chart("success")["reading"]
    page.click("#smooth")
    page.settle()
    assert page.drawing("success") != smooth
    page.point("success", 0.4)
    assert page.chart("success")["reading"] == read


def test_the_client_that_is_off_is_named(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    assert page.texts("#clients em") == ["off"]
    rows = page.texts("#clients tbody tr")
    assert [("off" in row) for row in rows] == [False, False, True]
    (finding,) = (text for text in page.texts("#findings dd") if "is off" in text)
    assert finding.startswith("Client 02 is off: success")
    alike = copy.deepcopy(one_run)
    for curve in alike["runs"][0]["training"]:
        curve["agents"] = alike["runs"][0]["training"][0]["agents"]
    for each in alike["runs"][0]["history"]:
        each["drift"] = dict.fromkeys(each["drift"], 0.5)
    page = open_report(alike)
    assert page.texts("#clients em") == []
    assert any(text.startswith("None is off") for text in page.texts("#findings dd"))


def test_rounds_say_who_was_dropped_and_why(open_report: Open, one_run: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_report(one_run)
    rows = page.texts("#round-table tbody tr")
    assert [int(row.split()[0]) for row in rows] == list(range(100, 0, -1))
    assert "client 01: no answer in time" in rows[100 - 90]
    page.run("document.getElementById('strip').focus()")
    page.key(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, *[Keys.ARROW_LEFT] * 10)
    said = page.run("return document.activeElement.getAttribute('aria-valuetext')")
    assert said == "round 90, client 01: dropped: no answer in time"


def test_the_global_models_evaluations(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    evaluations = one_run["runs"][0]["globals"]
    rows = page.texts("#global-table tbody tr")
    assert len(rows) == len(evaluations)
    last = evaluations[-1]["agents"]["car_0"]
    assert f"{last['count']} of {last['trials']}" in rows[0]
    page.point("global-success", 0.5)
    found = page.chart("global-success")["reading"]
    (at,) = (each for each in evaluations if each["round"] == found["x"])
    assert found["values"][0]["value"] == at["agents"]["car_0"]["success"]


def test_groups_are_compared(open_report: Open, six_runs: Json) -> None:
    page = open_report(six_runs)
    assert page.state["run"] is None
    charts = {each["id"]: each for each in page.state["charts"]}
    names = [each["key"] for each in charts["group-success:global"]["series"]]
    assert names == ["group:0"] * 4 + ["group:1"] * 4  # three seeds and their mean
    page.point("group-success:global".replace(":", "_"), 1.0)
    (band,) = (
        each
        for each in six_runs["bands"]
        if (each["group"], each["metric"], each["of"], each["axis"])
        == (1, "success", "global", "episodes")
    )
    found = page.chart("group-success:global")["reading"]["values"]
    assert band["iqm"][-1] in [each["value"] for each in found if each["key"] == "group:1"]
    before = page.drawing("group-success_global")
    page.click("#curve-legend [data-key='group:1']")
    page.settle()
    assert page.drawing("group-success_global") != before
    assert "\u221212 points" in page.texts("#pairs tbody tr")[0]
    assert "worse" in page.texts("#pairs tbody tr")[0]
    assert len(page.texts("#comparison-table tbody tr")) == 2


def test_a_run_of_several_is_shown(open_report: Open, six_runs: Json) -> None:
    page = open_report(six_runs)
    assert not page.driver.find_element("id", "rounds").is_displayed()
    page.click("#runs tbody tr:nth-child(3) button")
    page.settle()
    assert page.state["run"] == 2
    assert page.driver.find_element("id", "rounds").is_displayed()
    page.point("return", 1.0)
    found = {each["key"]: each["value"] for each in page.chart("return")["reading"]["values"]}
    mean = six_runs["runs"][2]["training"][-1]
    assert found["mean"] == mean["agents"]["car_0"]["return"][-1]
    page.choose("run", "All, by group")
    assert page.state["run"] is None


def test_settings_are_filtered(open_report: Open, six_runs: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_report(six_runs)
    keys = [each["key"] for each in six_runs["settings"]]
    assert page.texts("#settings-table tbody th") == keys
    page.driver.find_element("id", "filter").send_keys("LIDAR")
    assert page.texts("#settings-table tbody th") == ["env.lidar.beams"]
    page.driver.find_element("id", "filter").send_keys("x")
    assert page.texts("#settings-empty") == ["No setting fits."]
    page.key(*[Keys.BACKSPACE] * 6)
    page.click("#differing")
    assert page.texts("#settings-table tbody th") == ["federated.optimizer_strategy"]
