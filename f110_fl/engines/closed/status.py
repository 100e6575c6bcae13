"""What a closed SuperLink tells its operators: who is connected, and how runs are getting on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from f110_fl.engines.flower.internals import Nodes, Run
from f110_fl.federation.messages import shown
from f110_fl.federation.versions import here
from f110_fl.reporting import announce


@dataclass(frozen=True)
class Heard:
    """What is known of a client from its last request.

    Attributes:
        at: When it came, s since 1970.
        address: Where from.
        version: Of Flower, as it says.
    """

    at: float
    address: str
    version: str


def report(nodes: Nodes, heard: Mapping[bytes, Heard]) -> dict[str, Any]:
    """Return the state of clients and runs, as JSON has it.

    Returns:
        ``versions``: this server's `f110_fl.federation.versions.Versions`. ``clients``: of each
        ``name``, ``connected``, ``since`` (ISO 8601, "" if never), ``heard`` (s ago, null if
        never), ``address``, ``version``. ``runs``: of each ``run`` (its number, as text),
        ``status``, ``since``, ``operator``, ``root``, ``round``, ``rounds``, ``errors`` (the last
        of each client, by its id) and ``note`` (the server's last).
    """
    now = time.time()
    clients = []
    for key, name, online, since in nodes.describe():
        last = heard.get(key)
        clients.append(
            {
                "name": name or "no name",
                "connected": online,
                "since": since,
                "heard": None if last is None else round(now - last.at, 1),
                "address": "" if last is None else last.address,
                "version": "" if last is None else last.version,
            }
        )
    runs = [_run(run, log) for run, log in nodes.runs()]
    clients.sort(key=lambda client: str(client["name"]))
    return {"versions": asdict(here()), "clients": clients, "runs": runs}


def _run(run: Run, log: str) -> dict[str, Any]:
    """Return what a run's server announced in its log."""
    told: dict[str, Any] = {
        "run": str(run.run_id),
        "status": ":".join(part for part in (run.status.status, run.status.sub_status) if part),
        "since": run.finished_at or run.running_at or run.pending_at,
        "operator": run.account_name,
        "root": "",
        "round": 0,
        "rounds": None,
        "errors": {},
        "note": "",
    }
    announcements = announce.Announcements()
    for line in log.splitlines():
        event = announcements.read(line)
        if event is None:
            continue
        kind = event["event"]
        if kind == announce.STARTED:
            told |= {"root": event["root"], "round": event["rounds"]}
        elif kind == announce.ROUND:
            told |= {"round": event["round"], "rounds": event["rounds"]}
            told["errors"] |= {k: shown(str(why)) for k, why in event.get("dropped", {}).items()}
        elif kind in {announce.NOTE, announce.FAILED}:
            told["note"] = shown(str(event["message"]))
    return told
