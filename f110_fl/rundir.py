"""The names of a run's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

# In a client's directory.
STATE: Final = "state.safetensors"
EPISODES: Final = "episodes.jsonl"
BEST: Final = "best.safetensors"
PRIVACY_KEY: Final = "privacy.key"  # the secret of privacy noise; in a run's directory, too
LOCK: Final = "lock"  # locked by the client's process; in a run's directory, by the run's
# Beside the clients' directories, while a simulation works there: state files to be written anew.
SPARES: Final = ".spares"


class RunDir:
    """The directory of one run, ``FED_ROOT`` of a federated one.

    Attributes:
        config: The resolved scenario; its presence marks a directory as holding a run.
        server_lock: Locked by the process that the ServerApp runs in.
        identity: The run's unique name, for clients that keep their state elsewhere.
        rounds: One JSON line for each completed round.
        evaluations: One JSON line for each evaluation of the global model.
        inputs: SHA-256 of the files that the run depends on, by their paths.
        manifest: SHA-256 of all that is in the directory, and the end of the rounds' chain; it
            is there while no process works in it.
        keys: Public keys of the clients that sign, ``client_NN.pub``.
        starts: One JSON line for each start of the run: when, by which command, on what.
        report: The page that shows what the run left.
        best: The global model of the server's best evaluation.
        privacy_key: Secret that the server's privacy noise comes from; for its owner's eyes only.
        server: What the server keeps between rounds: global tensors and its strategy's state.
        clients: Directory of the clients' directories.
        spares: See `SPARES`.
        logs: Directory of the processes' logs.
        flower: Directory of Flower's own files.
        tensorboard: Directory of TensorBoard's files, if they were asked for.
        superlink: A deployed run's SuperLink, HOST:PORT, for as long as the run lasts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "config.json"
        self.server_lock = root / "server.lock"
        self.identity = root / "identity"
        self.rounds = root / "rounds.jsonl"
        self.evaluations = root / "evaluations.jsonl"
        self.inputs = root / "inputs.json"
        self.starts = root / "starts.jsonl"
        self.best = root / BEST
        self.privacy_key = root / PRIVACY_KEY
        self.server = root / "server.safetensors"
        self.clients = root / "clients"
        self.spares = self.clients / SPARES
        self.logs = root / "logs"
        self.flower = root / "flower"
        self.report = root / "report.html"
        self.tensorboard = root / "tensorboard"
        self.superlink = root / "superlink"
        self.manifest = root / "manifest.json"
        self.keys = root / "keys"

    def client(self, client_id: int) -> Path:
        """Return the directory of what a client keeps between rounds."""
        return self.clients / f"{client_id:02d}"

    def state(self, client_id: int) -> Path:
        """Return the file of a client's progress and of what it has learned."""
        return self.client(client_id) / STATE

    def episodes(self, client_id: int) -> Path:
        """Return the file with one JSON line for each of a client's episodes."""
        return self.client(client_id) / EPISODES

    def node(self, client_id: int) -> Path:
        """Return the file that says which of Ray's nodes a client was on last."""
        return self.client(client_id) / "node.json"

    def round(self, server_round: int) -> Path:
        """Return the directory of a round, counted from 1."""
        return self.root / f"round_{server_round:05d}"

    def numbered_rounds(self) -> Iterator[int]:
        """Yield the numbers of the rounds that have a directory, in any order."""
        for path in self.root.glob("round_*"):
            digits = path.name.removeprefix("round_")
            if digits.isdecimal() and digits.isascii():
                yield int(digits)

    def global_tensors(self, server_round: int) -> Path:
        """Return the file of the tensors that every client starts the next round from."""
        return self.round(server_round) / "global.safetensors"

    def average(self, server_round: int) -> Path:
        """Return the file of the running average of the global models."""
        return self.round(server_round) / "average.safetensors"

    def published(self, server_round: int) -> Path:
        """Return the file of the model that a round is judged by: its average, if there is one."""
        average = self.average(server_round)
        return average if average.is_file() else self.global_tensors(server_round)

    def client_tensors(self, server_round: int, client_id: int) -> Path:
        """Return the file of the tensors that a client sent."""
        return self.round(server_round) / f"client_{client_id:02d}.safetensors"

    def metrics(self, server_round: int) -> Path:
        """Return the file of a round's metrics, by client and aggregated."""
        return self.round(server_round) / "metrics.json"
