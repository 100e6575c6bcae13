#!/usr/bin/env python3
"""Let strangers at a closed SuperLink while a run is in progress, and at a bare one (loopback).

Two clients and a closed SuperLink (``python -m server.superlink``) are started, and a run is made
that nobody disturbs. During a second one strangers try all that they can: every route that the
installed Flower has, and those that this project adds, with no key, with a key that nobody
registered and with made-up tokens; task polling; tricks with paths; large bodies; many connections
that say nothing, or their headers byte by byte. All must be refused, and the second run must leave
the same bytes as the first.
Then a client is killed in a round, which goes on without it, and started again, and the SuperLink
is killed and started again: the run is resumed, and its bytes are the same, too. At last the same
strangers come to Flower's own ``flower-superlink``, where they must succeed: what this looks for
can be found.

Prints a line for each attempt. Exit status: 0 all as it must be, 1 not.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts import strangers
from parts.strangers import NO_ANSWER, REFUSALS, Door

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.closed.gate import OWN
from f110_fl.engines.credentials import Credentials, make_credentials
from f110_fl.engines.flower.internals import routes, superlink_app
from f110_fl.engines.flower.programs import environment, free_port
from f110_fl.engines.flower.programs import program as flower_program
from f110_fl.engines.operators import make_operator
from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.files import complete_lines
from f110_fl.reporting.summary import completed_rounds
from f110_fl.rundir import RunDir

REPOSITORY: Final = Path(__file__).resolve().parents[1]
HOST: Final = "127.0.0.1"
TIMEOUT: Final = 900.0  # s for whatever is waited for
POLL: Final = 0.1  # s between two looks
CROWD_TIME: Final = 40.0  # s in which connections that say nothing must have ended
HEADER: Final = b"POST /v1/control/list-runs HTTP/1.1\r\nhost: 127.0.0.1\r\nx: "
CLIENTS: Final = 2
STARTED: Final = "Application startup complete"  # in a client's log: it asks to be let in
CONNECTED: Final = "SuperNode ID"
LET_IN: Final = 8.0  # s from then on
TASK: Final[dict[str, Any]] = {
    "name": "verify_closed",
    "seed": 7,
    "env": {
        "max_steps": 40,
        "lidar": {"beams": 8, "noise_std": 0.01},
        "spawn_sets": [["spawn_3", "spawn_1"], ["spawn_2", "spawn_1"]],
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon", "target": "car_0"}},
        ],
    },
    "learners": {
        "car_0": {
            "algorithm": "td3",
            "hidden": [16, 16],
            "batch_size": 16,
            "warmup_steps": 20,
            "replay": {"capacity": 100, "alpha": 0.6},
        }
    },
    "evaluation": {"episodes": 0},
    "federated": {"clients": CLIENTS, "round_interval": 1, "connect_timeout": TIMEOUT},
}
ASKED: Final = "Receiving: train message"  # in a client's log


@dataclass
class Verdict:
    """What was found, a line each."""

    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, answers: Iterable[int], allowed: Iterable[int]) -> None:
        """Print how often which answer came; remember what must not be."""
        counts = Counter(answers)
        bad = sorted(set(counts) - set(allowed))
        said = ", ".join(f"{n} x {s or 'ended'}" for s, n in sorted(counts.items()))
        self.say(f"{what}: {said}", good=not bad and bool(counts))

    def say(self, line: str, *, good: bool) -> None:
        """Print a line, and remember it if it is not good."""
        print(f"{'ok' if good else 'WRONG'}   {line}", flush=True)  # noqa: T201
        if not good:
            self.wrong.append(line)


class Federation:
    """A SuperLink and its clients, as processes that end with the block."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        self.keys = make_credentials(directory / "keys", (HOST,), CLIENTS)
        self.token = make_operator(directory / "keys", "operator")
        self.link = SuperLink(f"{HOST}:{free_port()}", self.keys.ca, self.token)
        self.door = Door(self.link.port, self.keys.ca)
        self.superlink = self.start_superlink()
        self.clients = [self.start_client(k) for k in range(CLIENTS)]

    def start(self, name: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start one of this project's programs, with its output in a log of that name."""
        return self._stack.enter_context(
            running([sys.executable, *words], self.directory / f"{name}.log")
        )

    def start_superlink(self) -> subprocess.Popen[bytes]:
        """Start the SuperLink, which remembers runs over a restart."""
        words = ["-m", "server.superlink", "--port", str(self.link.port)]
        words += ["--keys", str(self.keys.directory), "--database", str(self.directory / "db")]
        process = self.start("superlink", words)
        wait(self.link.answers, "the SuperLink answers")
        return process

    def start_client(self, client_id: int) -> subprocess.Popen[bytes]:
        """Start a client."""
        words = ["-m", "clients.process", "--client-id", str(client_id), "--superlink"]
        words += [self.link.address, "--root-certificates", str(self.keys.ca)]
        words += ["--key", str(self.keys.client_key(client_id)), "--total-clients", str(CLIENTS)]
        words += ["--fed-root", str(self.directory / f"state_{client_id}")]
        return self.start(f"client_{client_id}", words)

    def submit(
        self, name: str, scenario: Path | None, *flags: str
    ) -> tuple[subprocess.Popen[bytes], RunDir]:
        """Start a run, or resume it, which leaves its files in a directory of that name."""
        root = self.directory / name
        words = ["run.py", *self.link.flags, *flags]
        words += ["--resume", str(root)] if scenario is None else ["--scenario", str(scenario)]
        variables = {} if scenario is None else {"FED_ROOT": str(root)}
        process = self._stack.enter_context(
            running([sys.executable, *words], self.directory / f"{name}.log", **variables)
        )
        return process, RunDir(root)


@contextmanager
def running(
    command: Sequence[str], log: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a session of its own, and end it with the block."""
    output: IO[bytes]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=REPOSITORY,
            env=environment(log.parent / "home") | {"WANDB_MODE": "disabled"} | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait(condition: Callable[[], bool], what: str) -> float:
    """Wait for a condition; return how long it took, s.

    Raises:
        UserError: If it does not come.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + TIMEOUT:
            raise UserError(f"{what}: not within {TIMEOUT:g} s")
        time.sleep(POLL)
    return time.monotonic() - began


def attack(door: Door, known: set[tuple[str, str]], sizes: argparse.Namespace, to: Verdict) -> None:
    """Try everything; all must be refused."""
    refused = REFUSALS | {NO_ANSWER}
    for name, headers in strangers.strangers():
        answers = strangers.every_route(door, known, headers)
        to.note(f"{len(known)} routes with {name}", answers.values(), REFUSALS)
    tricked = strangers.tricks(door)
    to.note(f"{len(tricked)} tricks", tricked.values(), REFUSALS)
    to.note("polls for tasks", strangers.polls(door, sizes.polls), refused)
    paths = ("/docs", "/v1/control/start-run", "/v1/fleet/push-object", "/v1/runtime/push-object")
    large = strangers.large_bodies(door, paths, sizes.body)
    to.note(f"bodies of {sizes.body} bytes", large.values(), refused)
    for what, said in (("idle connections", b""), ("headers sent byte by byte", HEADER * 20)):
        left = strangers.crowd(door, sizes.connections, CROWD_TIME, said)
        to.say(f"{sizes.connections} {what}: {left} left", good=left == 0)


def disturbed(
    federation: Federation, scenario: Path, sizes: argparse.Namespace, to: Verdict
) -> None:
    """Compare a run during which strangers come with one during which they do not."""
    known = routes(superlink_app(":flwr-in-memory:", lambda _: None, os.urandom(32))) | OWN
    quiet, first = federation.submit("quiet", scenario)
    wait(lambda: quiet.poll() is not None, "the undisturbed run ends")
    attacked, second = federation.submit("attacked", scenario)
    wait(lambda: completed_rounds(second) >= 1 or attacked.poll() is not None, "its first round")
    before = completed_rounds(second)
    attack(federation.door, known, sizes, to)
    during = completed_rounds(second) - before
    wait(lambda: attacked.poll() is not None, "the run ends")
    ends = [process.returncode for process in (quiet, attacked)]
    to.say(f"runs ended with {ends}, {during} rounds during the attack", good=ends == [0, 0])
    last = sizes.rounds
    whole = [run.global_tensors(last).read_bytes() for run in (first, second)]
    to.say(f"global models after {last} rounds are byte-equal", good=whole[0] == whole[1])


def killed(federation: Federation, scenario: Path, to: Verdict) -> None:
    """Kill a client in a round and start it again; its start takes what the machine needs."""
    log = federation.directory / "client_1.log"
    settings = ("--episodes", "1000", "--set", "federated.min_clients=1", "federated.timeout=60")
    run, rundir = federation.submit("without", scenario, *settings)
    # The first rounds compile kernels.
    wait(lambda: completed_rounds(rundir) >= 2 or run.poll() is not None, "its second round")
    asked = log.read_text(errors="replace").count(ASKED)
    wait(lambda: log.read_text(errors="replace").count(ASKED) > asked, "the client is asked")
    before = [log.read_text(errors="replace").count(text) for text in (STARTED, CONNECTED)]
    os.killpg(federation.clients[1].pid, signal.SIGKILL)
    federation.clients[1].wait()
    federation.clients[1] = federation.start_client(1)
    start = wait(lambda: log.read_text(errors="replace").count(STARTED) > before[0], "its start")
    rest = wait(lambda: log.read_text(errors="replace").count(CONNECTED) > before[1], "it is back")
    to.say(
        f"a killed client is back after {start + rest:.1f} s, of which its start {start:.1f} s",
        good=rest <= LET_IN,
    )

    def parts(taken: str) -> list[int]:
        lines = complete_lines(rundir.rounds)
        return [line["round"] for line in lines if "1" in map(str, line[taken])]

    missed = wait(lambda: bool(parts("dropped")), "a round without it, which is named")
    lost = parts("dropped")[0]
    again = wait(lambda: parts("clients")[-1] > lost, "it takes part again")
    to.say(
        f"round {lost} named it after {missed:.1f} s; it took part {again:.1f} s later", good=True
    )
    run.terminate()
    wait(lambda: run.poll() is not None, "the run is stopped")


def restarted(federation: Federation, scenario: Path, rounds: int, to: Verdict) -> None:
    """Kill the SuperLink in the middle of a run, start it again and resume the run."""
    run, rundir = federation.submit("broken", scenario)
    wait(lambda: completed_rounds(rundir) >= 1 or run.poll() is not None, "its first round")
    os.killpg(federation.superlink.pid, signal.SIGKILL)
    federation.superlink.wait()
    wait(lambda: run.poll() is not None, "the run ends")
    federation.superlink = federation.start_superlink()
    resumed, _ = federation.submit("broken", None)
    wait(lambda: resumed.poll() is not None, "the resumed run ends")
    ends = [run.returncode, resumed.returncode]
    to.say(
        f"a run whose SuperLink is killed, and it resumed, ended with {ends}", good=ends == [1, 0]
    )
    alive = [client.poll() is None for client in federation.clients]
    to.say(f"clients outlived it: {alive}", good=all(alive))
    quiet = RunDir(federation.directory / "quiet")
    whole = [own.global_tensors(rounds).read_bytes() for own in (quiet, rundir)]
    to.say(f"global models after {rounds} rounds are byte-equal", good=whole[0] == whole[1])


def bare(directory: Path, keys: Credentials, sizes: argparse.Namespace, to: Verdict) -> None:
    """Show that the same strangers succeed where nothing is before Flower's SuperLink."""
    link = SuperLink(f"{HOST}:{free_port()}", keys.ca)
    command = [flower_program("flower-superlink"), "--enable-supernode-auth", "--host", HOST]
    command += ["--port", str(link.port), "--ssl-ca-certfile", str(keys.ca)]
    command += ["--ssl-certfile", str(keys.certificate), "--ssl-keyfile", str(keys.key)]
    door = Door(link.port, keys.ca)
    with running(command, directory / "bare.log"):
        wait(link.answers, "the bare SuperLink answers")
        open_to_all = {("GET", "/docs"), ("GET", "/openapi.json")}
        open_to_all |= {("POST", f"/v1/control/{name}") for name in ("list-runs", "list-nodes")}
        answers = strangers.every_route(door, open_to_all, {})
        to.note("bare: documents, runs and nodes", answers.values(), {200})
        to.note("bare: polls for tasks", strangers.polls(door, 5), {200})
        key = ec.generate_private_key(ec.SECP384R1()).public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        body = b"\x0a" + bytes([len(pem) & 0x7F | 0x80, len(pem) >> 7]) + pem
        head = strangers.request("POST", "/v1/control/register-node", {}, len(body))
        to.note("bare: a stranger registers his key", [door.ask(head, [body])], {200})
        large = strangers.large_bodies(door, ["/v1/control/list-runs"], sizes.body)
        to.say(f"bare: a large body is read and parsed: {large}", good=400 in large.values())
        left = strangers.crowd(door, sizes.connections, 15.0)
        to.say(f"bare: {left} of {sizes.connections} idle connections left", good=left > 0)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(prog="verify_closed.py", description=__doc__)
    parser.add_argument("--rounds", default="6", help="rounds of the runs (6)")
    parser.add_argument("--polls", default="1000", help="polls for tasks (1000)")
    parser.add_argument("--body", default="50000000", help="size of large bodies, bytes (50000000)")
    parser.add_argument("--connections", default="200", help="connections that say nothing (200)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Do all of it; return the exit status."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        from f110_fl.loading.texts import bounded

        for name, least, most in (
            ("rounds", 2, 1000),
            ("polls", 1, 100_000),
            ("body", 1_000_000, 10**9),
            ("connections", 2, 1000),
        ):
            value = bounded(f"--{name}", getattr(arguments, name), least, most)
            setattr(arguments, name, value)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
        verdict = Verdict()
        with ExitStack() as stack:
            directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-closed-"))
            )
            scenario = directory / "scenario.yaml"
            scenario.write_text(yaml.safe_dump(TASK | {"episodes": arguments.rounds}))
            with ExitStack() as processes:
                federation = Federation(directory, processes)
                disturbed(federation, scenario, arguments, verdict)
                restarted(federation, scenario, arguments.rounds, verdict)
                killed(federation, scenario, verdict)
            bare(directory, federation.keys, arguments, verdict)
        print(f"{len(verdict.wrong)} wrong")  # noqa: T201
        return 1 if verdict.wrong else 0

    return program("verify_closed.py", work)


if __name__ == "__main__":
    sys.exit(main())
