"""Names of the files that a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# In a client's directory.
STATE: Final = "state.safetensors"
EPISODES: Final = "episodes.jsonl"
BEST: Final = "best.safetensors"
LOCK: Final = "lock"  # locked by the process that is the client; also one in a run's directory


@dataclass(frozen=True)
class RunDir:
    """The directory of one run, ``FED_ROOT`` of a federated one."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved scenario; its presence marks a directory as holding a run."""
        return self.root / "config.json"

    @property
    def lock(self) -> Path:
        """Locked by the process that runs the run."""
        return self.root / LOCK

    @property
    def server_lock(self) -> Path:
        """Locked by the process that the ServerApp runs in."""
        return self.root / "server.lock"

    @property
    def identity(self) -> Path:
        """The run's name for clients that keep their state elsewhere; no two runs share one."""
        return self.root / "identity"

    @property
    def rounds(self) -> Path:
        """One JSON line for each completed round."""
        return self.root / "rounds.jsonl"

    @property
    def evaluations(self) -> Path:
        """One JSON line for each evaluation of the global model."""
        return self.root / "evaluations.jsonl"

    @property
    def best(self) -> Path:
        """The global model of the server's best evaluation."""
        return self.root / BEST

    @property
    def server(self) -> Path:
        """What the server keeps between rounds: global tensors and its strategy's state."""
        return self.root / "server.safetensors"

    @property
    def clients(self) -> Path:
        """Directory of the clients' directories."""
        return self.root / "clients"

    @property
    def logs(self) -> Path:
        """Directory of the processes' logs."""
        return self.root / "logs"

    def client(self, client_id: int) -> Path:
        """What client ``client_id`` keeps between rounds."""
        return self.clients / f"{client_id:02d}"

    def state(self, client_id: int) -> Path:
        """How far client ``client_id`` is, and what it has learned."""
        return self.client(client_id) / STATE

    def episodes(self, client_id: int) -> Path:
        """One JSON line for each episode that client ``client_id`` ran."""
        return self.client(client_id) / EPISODES

    def round(self, server_round: int) -> Path:
        """Artefacts of a round, counted from 1."""
        return self.root / f"round_{server_round:05d}"

    def global_tensors(self, server_round: int) -> Path:
        """What every client starts the next round from."""
        return self.round(server_round) / "global.safetensors"

    def client_tensors(self, server_round: int, client_id: int) -> Path:
        """What a client sent."""
        return self.round(server_round) / f"client_{client_id:02d}.safetensors"

    def metrics(self, server_round: int) -> Path:
        """Metrics of a round, by client and aggregated."""
        return self.round(server_round) / "metrics.json"
