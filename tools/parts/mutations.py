"""Mutants of the files that a run reads: scenarios, maps, lines, a run's directory."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import yaml
from PIL import Image

Rng = np.random.Generator
T = TypeVar("T")

# What stands in place of a value: as YAML text.
VALUES: Final = (
    *("null", "true", "no", "~", "''", "'  '", "[]", "{}", "[[]]", "{a: {b: [1, 2]}}", "[1, x]"),
    *("0", "-1", "1", "2", "-0.0", "1.5", "1e308", "-1e308", "1e-308", ".inf", "-.inf", ".nan"),
    *("2147483648", "9223372036854775807", "-9223372036854775808", "1000000000", "1" + "0" * 40),
    *("1000000", "0x7f", "012", "1:30", "1e9", "2024-01-01", "text", "car_0", "ünï-✓", "'\\0'"),
    *('"\\0"', '"a\\nb"', "'../../x'", "/", "/dev/zero", "/dev/full", ".", "..", "!!binary x"),
    *("!!python/object:os.system x", "*nobody", "&a [*a]", "{<<: 3}", "'" + "x" * 1_000_000 + "'"),
    *("[" * 2000, "{a: " * 900, "[" + "0, " * 20_000 + "0]"),
)
NUMBER: Final = r"(?<=: )-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?(?=[,}\s]|$)"
BOMB: Final = "\n".join(
    f"x-{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else '1'}]" for n in range(9)
)
MERGE_BOMB: Final = "\n".join(
    f"x-{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 9)}]}}" if n else "x-0: &m0 {a: 1}"
    for n in range(9)
)


def pick(rng: Rng, values: Sequence[T]) -> T:
    """Draw one of some values."""
    return values[int(rng.integers(len(values)))]


def mutate_text(text: str, rng: Rng) -> bytes:
    """Change a YAML file: a value, a line, an indent, a key, or bytes."""
    lines = text.splitlines() or [""]
    at = int(rng.integers(len(lines)))
    kind = pick(
        rng,
        ("value",) * 8
        + ("number",) * 8
        + ("line", "key", "indent", "bytes", "cut", "bomb", "anchor"),
    )
    if kind == "value":
        found = [n for n, line in enumerate(lines) if re.search(r":\s+\S", line)]
        at = pick(rng, found) if found else at
        spots = list(re.finditer(r"(?<=: )[^,{}\[\]\n#]+", lines[at]))
        if spots:
            spot = pick(rng, spots)
            lines[at] = lines[at][: spot.start()] + pick(rng, VALUES) + lines[at][spot.end() :]
    elif kind == "number":
        numbered = [n for n, line in enumerate(lines) if re.search(NUMBER, line)]
        at = pick(rng, numbered) if numbered else at
        places = list(re.finditer(NUMBER, lines[at]))
        if places:
            place = pick(rng, places)
            power = int(rng.integers(-6, 7))
            scaled = float(place[0]) * 10.0**power * pick(rng, (1, 1, 3, -1))
            new = repr(scaled) if re.search("[.e]", place[0]) else str(int(scaled))
            lines[at] = lines[at][: place.start()] + new + lines[at][place.end() :]
    elif kind == "line":
        change = pick(rng, ("twice", "away", "swap"))
        if change == "twice":
            lines.insert(at, lines[at])
        elif change == "away":
            del lines[at]
        else:
            other = int(rng.integers(len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
    elif kind == "key":
        lines[at] = re.sub(
            r"\w+:", pick(rng, ("x:", "é:", "'':", "1:", "null:", "env:")), lines[at], count=1
        )
    elif kind == "indent":
        lines[at] = pick(rng, ("\t", "  ", " ", "- ", "? ", "---\n", "%", "")) + lines[at].lstrip()
    elif kind == "bomb":
        use = pick(rng, ("seed: *l8", "env: {laps: *l8}", "name: *l8", "image: *l8", "origin: *l8"))
        return f"{pick(rng, (BOMB, MERGE_BOMB.replace('m', 'l')))}\n{use}\n{text}".encode()
    elif kind == "anchor":
        lines[at] = lines[at].replace(": ", ": &x ", 1)
        lines.append("seed: *x")
    data = "\n".join([*lines, ""]).encode()
    return mutate_bytes(data, rng, cut=kind == "cut") if kind in ("bytes", "cut") else data


def mutate_bytes(data: bytes, rng: Rng, *, cut: bool | None = None) -> bytes:
    """Cut a file off, or overwrite a part of it with NUL, 0xff, noise or nothing."""
    if not data:
        return rng.bytes(8)
    at = int(rng.integers(len(data)))
    if cut or (cut is None and rng.random() < 0.4):
        return data[:at]
    length = int(rng.integers(1, 65))
    with_ = pick(rng, (b"\0" * length, b"\xff" * length, rng.bytes(length), b"", b"\xef\xbb\xbf"))
    return data[:at] + with_ + data[at + length :]


def mutate_line(text: str, rng: Rng) -> bytes:
    """Change a CSV file: separators, marks, a field, a header, a line, or bytes."""
    kind = pick(rng, ("separator", "field", "field", "header", "line", "bytes", "end", "order"))
    lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    fields = ("nan", "inf", "-1", "0", "1e308", "1e-320", "", "x", "1,5", "½", '"1"', "0x1", "1_0")
    if kind == "separator":
        text = text.replace(",", pick(rng, (";", "\t", " ", "|", ", ", ",,", "; ")))
    elif kind == "end":
        text = text.replace("\n", pick(rng, ("\r\n", "\r", "\n\n", "\u2028", "\0")))
    elif kind == "field":
        row = lines[at].split(",")
        row[int(rng.integers(len(row)))] = pick(rng, fields)
        lines[at] = ",".join(row)
    elif kind == "header":
        names = ("x,y", "# x_m; y_m", "y,x", "s,x,y,psi", "x,x", "a,b,c,d", "w_left,w_right,x,y")
        lines[0] = pick(rng, (*names, "#", "# " + "x" * 1_000_000, "x,y,vx_mps,"))
    elif kind == "line":
        lines[at] = pick(rng, ("", lines[at][: len(lines[at]) // 2], lines[at - 1], "# no", "1"))
    elif kind == "order":
        lines = [lines[n] for n in rng.permutation(len(lines))]
    if kind in ("separator", "end"):
        return pick(rng, (b"", b"\xef\xbb\xbf")) + text.encode()
    data = "\n".join([*lines, ""]).encode()
    return mutate_bytes(data, rng) if kind == "bytes" else data


def mutate_image(path: Path, rng: Rng) -> None:
    """Write another image in place of a map's: of another mode, size or content, or torn."""
    with Image.open(path) as image:
        grey = np.array(image.convert("L"))
    kinds = ("torn", "torn", "mode", "mode", "deep", "size", "all", "header", "other", "animated")
    kind = pick(rng, kinds)
    if kind == "mode":
        other = Image.fromarray(grey).convert(pick(rng, ("1", "P", "RGB", "RGBA", "LA", "CMYK")))
        other.save(path, pick(rng, ("TIFF", "PNG")) if other.mode != "CMYK" else "TIFF")
    elif kind == "deep":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif kind == "size":
        Image.fromarray(np.full(pick(rng, ((1, 1), (1, 4000), (2, 2))), 254, np.uint8)).save(path)
    elif kind == "all":
        Image.fromarray(np.full_like(grey, pick(rng, (0, 100, 205, 254, 255)))).save(path)
    elif kind == "header":
        size = pick(rng, (b"100000 100000", b"8000 8000", b"-1 5", b"0 0", b"5", b"99999999999 1"))
        path.write_bytes(pick(rng, (b"P5\n", b"P2\n", b"P6\n")) + size + b"\n255\n" + bytes(100))
    elif kind == "other":
        path.unlink()
        makers: dict[str, Callable[[], None]] = {
            "folder": path.mkdir,
            "circle": lambda: path.symlink_to(path),
            "pipe": lambda: os.mkfifo(path),
            "nothing": lambda: None,
        }
        makers[pick(rng, tuple(makers))]()
    elif kind == "animated":
        Image.fromarray(grey).save(path, "GIF", save_all=True)
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def mutate_run(root: Path, rng: Rng) -> str:
    """Damage one of the files of a run's directory; return which, and how."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".log")
    path = pick(rng, files)
    wrong = (
        b"",
        b"[]",
        b"{}",
        b"null",
        b"3",
        b'{"a": 1}',
        b"[" * 100_000,
        b"{}\n",
        b'{"kind": 1}\n',
    )
    damages: dict[str, Callable[[], object]] = {
        "torn": lambda: path.write_bytes(mutate_bytes(path.read_bytes(), rng)),
        "nul": lambda: path.write_bytes(bytes(path.stat().st_size)),
        "gone": path.unlink,
        "swapped": lambda: shutil.copyfile(other, path) if other != path else None,
        "wrong": lambda: path.write_bytes(pick(rng, wrong)),
        "folder": lambda: _make_folder(path),
        "closed": lambda: path.chmod(0),
        "keys": lambda: path.write_bytes(_other_keys(path.read_bytes(), rng)),
        "longer": lambda: path.write_bytes(
            path.read_bytes() + pick(rng, (b"\0" * 9, b'{"x', b"\n"))
        ),
    }
    other = pick(rng, files)
    how = pick(rng, tuple(damages))
    damages[how]()
    return f"{path.relative_to(root)} {how}"


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _other_keys(data: bytes, rng: Rng) -> bytes:
    """Rename a key, as if another version had written the file."""
    found = sorted(set(re.findall(rb'"([a-z_/0-9]+)":', data[:100_000])))
    if not found:
        return data[::-1]
    key = pick(rng, found)
    return data.replace(b'"' + key + b'":', b'"' + key[:-1] + b'x":')


def write_ring(folder: Path) -> None:
    """Write a small map of a ring with its centre line, and a scenario that drives on it."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    middle = np.arange(120) * 0.1 + 0.05 - 6
    lane = np.abs(np.hypot(middle[:, None], middle[None]) - 4) < 1
    Image.fromarray(np.where(lane, 254, 0).astype(np.uint8)).save(folder / "ring.png")
    ring = {"image": "ring.png", "resolution": 0.1, "origin": [-6.0, -6.0, 0.0], "negate": 0}
    finish = {"start": [3.2, 0.0], "end": [4.8, 0.0]}
    ring |= {"occupied_thresh": 0.65, "free_thresh": 0.196, "mode": "trinary"}
    ring |= {"annotations": {"finish_line": finish}}
    (folder / "ring.yaml").write_text(yaml.safe_dump(ring))
    rows = [f"{4 * np.cos(a):.4f},{4 * np.sin(a):.4f},0.9,0.9" for a in angle]
    (folder / "ring_centerline.csv").write_text("\n".join(["# x_m,y_m,w_right,w_left", *rows, ""]))
