"""Files and names that are not what a run wrote: what is lost is one line, never the run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from run_files import write_run
from small import REPOSITORY, write_small

import run
from clients import process
from f110_fl.engines.flower.programs import environment
from f110_fl.engines.superlink import resolve_superlink
from f110_fl.errors import UserError
from f110_fl.loading.document import parse_yaml
from f110_fl.loading.scenarios import load_scenario
from f110_fl.reporting.pages.history import read_history
from f110_fl.reporting.summary import closing_lines, completed_rounds
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import run_root
from f110_fl.runs.plan import resolve_plan
from f110_fl.sweeps.results import RunProgress, earlier_seconds
from f110_fl.sweeps.runner import is_sweep

TAILS = [b'{"round": 3, "rou', b"\0" * 40, b"\xff\xfe\n", b"[]\n", b'{"round": null}\n', b"7\n"]


@pytest.mark.parametrize("tail", TAILS, ids=str)
def test_a_torn_line_of_a_log_is_passed_over(tmp_path: Path, tail: bytes) -> None:
    rundir = write_run(tmp_path / "run")
    scenario = read_history(rundir).scenario
    for log in (rundir.rounds, rundir.evaluations, rundir.episodes(0)):
        with log.open("ab") as file:
            file.write(tail)
    words = ["--resume", str(rundir.root), "--episodes", "80"]
    assert completed_rounds(rundir) == 8
    assert resolve_plan(run.build_parser().parse_args(words), {}).scenario.episodes == 80
    progress = RunProgress(rundir, 2)
    progress.poll()
    assert progress.episodes == 40
    read_history(rundir)
    assert closing_lines(scenario, rundir)


def test_names_that_are_no_clients_are_passed_over(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    scenario = read_history(rundir).scenario
    for name in ("00.bak", "07", "x"):
        (rundir.clients / name).mkdir()
        (rundir.clients / name / "episodes.jsonl").write_bytes(rundir.episodes(0).read_bytes())
    progress = RunProgress(rundir, 2)
    progress.poll()
    assert progress.episodes == 40
    assert closing_lines(scenario, rundir)


def test_a_config_that_is_not_text_is_refused_in_one_line(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.config.write_bytes(b'{"name": "\xff"}')
    arguments = run.build_parser().parse_args(["--resume", str(tmp_path)])
    with pytest.raises(UserError, match=r"config\.json:1: byte 0xff is not UTF-8"):
        resolve_plan(arguments, {})
    (tmp_path / "results.json").write_bytes(b"\xff")
    assert earlier_seconds(tmp_path) == {}


def test_a_directory_that_cannot_be_entered_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for root in ("x" * 300, str(tmp_path / "loop"), str(tmp_path / "file"), "a\0b"):
        assert not is_sweep(root)
        with pytest.raises(UserError, match="no run there"):
            resolve_plan(run.build_parser().parse_args(["--resume", root]), {})


def test_a_root_at_home_and_one_that_flower_refuses(tmp_path: Path) -> None:
    file = write_small(tmp_path)
    parse = run.build_parser().parse_args
    words = ["--scenario", str(file)]
    plan = resolve_plan(parse(words), {"FED_ROOT": "~/runs"})
    assert plan.rundir.root == run_root(plan.scenario) == Path.home() / "runs"
    odd = {"FED_ROOT": "it's"}
    resolve_plan(parse(words), odd)
    with pytest.raises(UserError, match="quotation mark"):
        resolve_plan(parse([*words, "--engine", "deployment"]), odd)


@pytest.mark.parametrize("host", ["LOCALHOST", "ip6-localhost", "localhost.", "127.9.9.9", "[::1]"])
def test_this_machine_by_any_of_its_names(host: str) -> None:
    assert resolve_superlink(f"{host}:9092", None, insecure=True).port == 9092
    with pytest.raises(UserError, match="not on this machine"):
        resolve_superlink("localhost.example:9092", None, insecure=True)


def test_no_proxy_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    monkeypatch.delenv("no_proxy", raising=False)
    found = environment()
    assert found["no_proxy"] == found["NO_PROXY"] == "inside.example,127.0.0.1,localhost,::1"


def test_aliases_that_multiply_are_refused_and_keys_for_anchors_allowed(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(UserError, match="more than 100000 values"):
        parse_yaml("\n".join(levels), "bomb.yaml")
    file = write_small(tmp_path)
    file.write_text("x-steps: &steps 33\n" + file.read_text())
    scenario = load_scenario(file)
    assert scenario.name == "small"
    file.write_text("y-steps: 3\n" + file.read_text())
    with pytest.raises(UserError, match="unknown key"):
        load_scenario(file)


def test_children_live_although_standard_output_is_closed(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "from pathlib import Path\n"
        "from f110_fl.runs.processes import Children\n"
        "from f110_fl.runs.startup import open_standard_streams\n"
        "from stubborn_children import speak\n"
        "if __name__ == '__main__':\n"
        "    open_standard_streams()\n"
        "    children = Children()\n"
        "    child = children.start(speak, ('hello', 0), Path('child.log'))\n"
        "    child.join()\n"
        "    Path('status').write_text(str(child.exitcode))\n"
    )
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "support")])
    command = ["/bin/sh", "-c", 'exec "$0" parent.py >&- 2>&-', sys.executable]
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, check=True)
    assert (tmp_path / "status").read_text() == "0"
    assert "hello" in (tmp_path / "child.log").read_text()


CLIENT = ["--client-id", "0", "--total-clients", "2", "--superlink", "127.0.0.1:9", "--insecure"]


@pytest.mark.parametrize("program", ["run.py", "clients.process"])
def test_a_working_directory_that_is_gone(program: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = {
        "run.py": [str(REPOSITORY / "run.py"), "--scenario", str(write_small(tmp_path))],
        "clients.process": ["-m", "clients.process", *CLIENT],
    }[program]
    result = subprocess.run(
        ["/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", sys.executable, *words],
        cwd=gone,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2
    reason = "the working directory was deleted; change to one that is there"
    assert result.stderr == f"{program}: {reason}\n"


def test_a_port_that_another_program_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = [*CLIENT, "--fed-root", str(tmp_path / "state"), "--port", str(port)]
        assert process.main(words) == 2
    error = capsys.readouterr().err
    assert error == f"clients.process: --port={port}: Address already in use; choose another\n"


@pytest.mark.slow
def test_a_long_directory_of_temporary_files(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    result = subprocess.run(
        [sys.executable, REPOSITORY / "run.py", "--scenario", write_small(tmp_path)],
        env=os.environ | {"TMPDIR": str(long), "FED_ROOT": str(tmp_path / "run")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
