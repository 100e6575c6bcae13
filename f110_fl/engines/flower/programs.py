"""Commands that start Flower's programs, and the environment they run in."""

from __future__ import annotations

import multiprocessing
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Final

from f110_fl.engines.operators import PRIVATE, read_token
from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.federation.versions import here
from f110_fl.files import write_atomic
from f110_fl.runs.logs import write_line
from f110_fl.runs.processes import adopt_orphans, end_descendants
from f110_fl.runs.startup import KERNEL_CACHE

APP: Final = Path(__file__).resolve().parents[3]  # the app that runs submit
CONNECTION: Final = "federation"  # name of the SuperLink in Flower's configuration

OUTPUT_GRACE: Final = 5.0  # s from the end of a program to that of its output
ESCAPE: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and other control of a terminal

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def environment(home: Path | None = None) -> dict[str, str]:
    """Return this process's environment with the variables that Flower's programs need.

    Args:
        home: Flower's home, where apps are installed; None: unchanged, ``~/.flwr`` by default.
    """
    variables = os.environ | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # Seconds between a SuperExec's looks for an app to start; Flower's default is 1.
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5",
        **KERNEL_CACHE,
        # Logs are read while they are written.
        "PYTHONUNBUFFERED": "1",
        # Flower starts its own programs by name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    for name in ("no_proxy", "NO_PROXY"):  # what is on this machine is not asked of a proxy
        others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
        variables[name] = ",".join([*([others] if others else []), *LOOPBACK])
    return variables if home is None else variables | {"FLWR_HOME": str(home)}


def connected(home: Path, link: SuperLink) -> dict[str, str]:
    """Return an environment in which Flower's command line knows a SuperLink.

    Raises:
        UserError: If the operator's token cannot be read.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    trust = "insecure = true"
    if link.root_certificates is not None:
        trust = f"root-certificates = '{link.root_certificates.absolute()}'"
    write_atomic(
        home / "config.toml",
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "{link.address}"\n{trust}\n',
    )
    if link.operator is not None:
        # Half a second: processes that only run one of Flower's programs do without.
        from f110_fl.engines.flower.internals import keep_token

        keep_token(home, link.address, read_token(link.operator))
    return environment(home)


def program(name: str) -> str:
    """Return the path of a program of this Python's environment."""
    return str(Path(sys.executable).with_name(name))


def bundled(home: Path, app: Path = APP) -> Path:
    """Copy an app's files, and nothing else of its folder, to where `flwr run` takes it from.

    Flower looks at every file below an app before it chooses, at tens of thousands where a virtual
    environment is among them: six seconds of a processor.

    Args:
        home: A directory of the run's own, for the copy.
        app: The app's folder; which files are its own is in its ``pyproject.toml``.
    """
    declared = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))
    folder = home / "app"
    for pattern in ("pyproject.toml", *declared["tool"]["flwr"]["app"]["fab-include"]):
        for path in app.glob(pattern):
            target = folder / path.relative_to(app)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder


def run_command(settings: Mapping[str, str], app: Path) -> list[str]:
    """Return the command that submits a run to ``CONNECTION`` and streams its log.

    Args:
        settings: Flower's run config.
        app: The app's folder; see `bundled`.

    Raises:
        UserError: For a setting that Flower cannot read.
    """
    words = " ".join(f"{key}={_quoted(text)}" for key, text in settings.items())
    return [program("flwr"), "run", str(app), CONNECTION, "--stream", "--run-config", words]


def supernode_command(
    link: SuperLink,
    key: Path | None,
    node_config: Mapping[str, str | int],
    *,
    max_wait: float | None = None,
) -> list[str]:
    """Return the command that runs a SuperNode, for `run_supernode`.

    Args:
        link: The SuperLink to connect to.
        key: The client's private key; None for a SuperLink without TLS.
        node_config: The values of ``Context.node_config`` in Flower's apps, to which what is
            installed here is added.
        max_wait: Time after which it gives up connecting, s; None: never.

    Raises:
        UserError: For a setting that Flower cannot read.
    """
    node_config = {**node_config, **here().node_config}
    if key is not None:  # the client signs with it what it answers, too
        node_config = {**node_config, "key": str(key.absolute())}
    config = " ".join(
        f"{name}={found if isinstance(found, int) else _quoted(found)}"
        for name, found in node_config.items()
    )
    command = [program("flower-supernode"), "--superlink", link.address, "--node-config", config]
    if key is None:
        command += ["--insecure"]
    else:
        command += ["--root-certificates", str(link.root_certificates)]
        command += ["--auth-supernode-private-key", str(key)]
    if max_wait is not None:
        command += ["--max-wait-time", str(int(max_wait))]
    return command


def _quoted(text: str) -> str:
    """Return a text as Flower reads it in a config: TOML without escaped quotes."""
    if text.startswith("{"):
        return "'" + text.replace("'", "\\u0027") + "'"  # JSON
    if "'" in text:
        raise UserError(f"{text!r}: Flower takes no text with a quotation mark")
    return f"'{text}'"


def run_supernode(
    command: Sequence[str], variables: Mapping[str, str], port: int | None = None
) -> None:
    """Run a SuperNode, and what runs its tasks, as `run_program` does.

    Args:
        command: From `supernode_command`.
        variables: The environment of both.
        port: Port of Flower's local API on loopback, by which they meet; None: a free one.
    """
    from f110_fl.engines.flower.executor import execute

    os.environ.update(variables)
    host, own = "127.0.0.1", port or free_port()
    command = [*command, "--host", host, "--port", str(own), "--isolation", "process"]
    secret = secrets.token_bytes(32)
    tasks = multiprocessing.get_context("spawn").Process(
        target=execute, args=(f"{host}:{own}", secret)
    )
    tasks.start()
    with tempfile.TemporaryDirectory(prefix="f110-fl-") as private:
        file = Path(private, "secret")
        write_atomic(file, secret, mode=PRIVATE)
        run_program([*command, "--superexec-auth-secret-file", str(file)], variables, tasks)


def run_program(
    command: Sequence[str], variables: Mapping[str, str], beside: BaseProcess | None = None
) -> None:
    """Run a program in this process's group, end all it started, and exit with its status.

    Its output is this process's, without colours if that is not a terminal.

    Args:
        command: The program and its arguments.
        variables: Its environment.
        beside: A child of this process without which the program is of no use: it is ended, too.
    """
    # Ignored, so that whoever ends the group waits for the program to tidy up.
    signal.signal(signal.SIGTERM, lambda *_: None)
    adopt_orphans()
    shown = os.isatty(1)
    child = subprocess.Popen(  # noqa: S603
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
    )
    pump = threading.Thread(target=_pass_on, args=(child.stdout,), daemon=True)
    pump.start()
    if beside is not None:
        threading.Thread(target=_end_with, args=(child, beside), daemon=True).start()
    status = child.wait()
    end_descendants()  # the others that write
    pump.join(OUTPUT_GRACE)
    sys.exit(status)


def _end_with(child: subprocess.Popen[bytes], other: BaseProcess) -> None:
    other.join()
    child.terminate()


def _pass_on(lines: IO[bytes] | None) -> None:
    """Write a program's output to this process's, line by line, without escape sequences."""
    for line in lines or ():
        with suppress(OSError):  # the program must not wait for a full disk
            write_line(ESCAPE.sub(b"", line))


def check_port(port: int) -> None:
    """Refuse a port of the loopback interface on which another program listens.

    Raises:
        UserError: If one does, or the system does not let this process have it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UserError(f"--port={port}: {error.strerror}; choose another") from None


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
