"""What W&B wrote into the file of an offline run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from wandb.proto.wandb_internal_pb2 import Record

# A log of LevelDB's form after a header of the same length as those of its parts.
HEADER: Final = struct.Struct("<IHB")  # checksum, length, which part of a record: 1 whole, 4 last
BLOCK: Final = 32768


def records(path: Path) -> Iterator[Any]:
    """Yields the records of a ``.wandb`` file."""
    data, offset, parts = path.read_bytes(), HEADER.size, b""
    while offset + HEADER.size <= len(data):
        left = BLOCK - offset % BLOCK
        if left < HEADER.size:
            offset += left
            continue
        _, length, part = HEADER.unpack_from(data, offset)
        offset += HEADER.size
        parts += data[offset : offset + length]
        offset += length
        if part in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def offline_runs(root: Path) -> dict[str, list[Any]]:
    """Returns the records of the offline runs in a directory, by the runs' names."""
    found = {}
    for path in sorted(root.glob("wandb/offline-run-*/*.wandb")):
        own = list(records(path))
        (name,) = {record.run.display_name for record in own if record.HasField("run")}
        found[name] = own
    return found


def history(own: list[Any]) -> list[dict[str, Any]]:
    """Returns what was logged, without what W&B adds."""
    logged = []
    for record in own:
        if record.HasField("history"):
            items = [(i.key or "/".join(i.nested_key), i.value_json) for i in record.history.item]
            logged.append({key: json.loads(text) for key, text in items if key[0] != "_"})
    return logged


def artifacts(own: list[Any]) -> list[tuple[str, list[str]]]:
    """Returns the type of each artifact, and its files' names."""
    found = [record.artifact for record in own if record.HasField("artifact")]
    return [(one.type, [entry.path for entry in one.manifest.contents]) for one in found]


def pages(own: list[Any], root: Path) -> dict[str, bytes]:
    """Returns the pages that were logged, by their keys."""
    return {
        key.removesuffix("/path"): next(root.glob(f"wandb/offline-run-*/files/{path}")).read_bytes()
        for values in history(own)
        for key, path in values.items()
        if key.endswith("/path")
    }
