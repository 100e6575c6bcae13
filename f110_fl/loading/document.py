"""Reads YAML into plain values and remembers their lines.

YAML 1.1 as PyYAML composes it, with the scalars of YAML 1.2 where 1.1 surprises: ``5e-6``
is a number, while ``012``, ``1:30`` and ``2024-01-01`` are text. ``yes`` and ``on`` stay
booleans. Lists become tuples, so that strict validation takes them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from f110_fl.config.keys import KeyPath, join
from f110_fl.errors import UserError
from sim.settings import expanded_size

_TAG: Final = "tag:yaml.org,2002:"
BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


MOST_VALUES: Final = 100_000  # of a file; aliases in aliases would make a short one endless


class Mark(NamedTuple):
    """A position in a file, counted from 1."""

    line: int
    column: int


class Document(NamedTuple):
    """A YAML file's value, and the position of each part of it."""

    data: object
    marks: dict[KeyPath, Mark]

    def mark(self, path: KeyPath) -> Mark:
        """Return the position of ``path``, or of its nearest ancestor in the file."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))


class _Loader(yaml.SafeLoader):
    """Composes nodes, and decides which plain scalars are not text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own interface)


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(_TAG + tag, re.compile(rf"(?:{pattern})\Z"), list(first))


_resolve("merge", "<<", "<")
_resolve("null", "~|null|Null|NULL|", "~nN")
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"\Z"), [""])
_resolve("bool", "|".join(f"{w}|{w.title()}|{w.upper()}" for w in BOOLEANS), "tTfFyYnNoO")
_resolve("int", "[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789")
_resolve(
    "float",
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
    "-+.0123456789",
)


def _int(text: str) -> int:
    value = int(text.replace("_", ""), 0) if len(text) < 100 else 2**63
    if not -(2**63) <= value < 2**63:
        raise OverflowError("whole number beyond 64 bits")
    return value


def _float(text: str) -> float:
    text = text.replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: Final[dict[str, Callable[[str], object]]] = {
    _TAG + "str": str,
    _TAG + "int": _int,
    _TAG + "float": _float,
    _TAG + "bool": lambda text: BOOLEANS[text.lower()],
    _TAG + "null": lambda _: None,
}


def parse_yaml(text: str, name: str) -> Document:
    """Read one YAML document; messages call it ``name``.

    Returns:
        Its value (``dict``, ``tuple``, ``str``, ``int``, ``float``, ``bool`` or ``None``) and
        the mark of every path in it; the value of an empty document is None.

    Raises:
        UserError: For a syntax error, a duplicate key, a key that is not text, a value that
            contains itself, or a tag beyond YAML's core.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        builder = _Builder(name)
        data = None if root is None else builder.build_all(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(f"{name}:{mark.line + 1 if mark else 1}: not YAML: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{name}:{line}: not YAML: {error.reason}") from None
    except RecursionError:
        raise UserError(f"{name}:1: nested too deeply") from None
    except UserError:
        raise
    except (ValueError, OverflowError) as error:  # PyYAML raises these for odd escapes
        raise UserError(f"{name}:1: not YAML: {error}") from None
    return Document(data, builder.marks)


class _Builder:
    """Turns composed nodes into values, and records their positions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[KeyPath, Mark] = {}
        self._open: list[yaml.Node] = []  # the nodes being built, outermost first

    def build_all(self, root: yaml.Node) -> object:
        """Return the value of a whole document, unless its aliases would make it endless."""
        if expanded_size(root) > MOST_VALUES:
            raise self._error(root, (), f"more than {MOST_VALUES} values; aliases multiply them")
        return self.build(root, ())

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        """Return the value of ``node``, whose keys are ``path``."""
        self.marks.setdefault(path, _mark(node))
        with self._entered(node, path):
            if isinstance(node, yaml.ScalarNode):
                return self._scalar(node, path)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return tuple(self.build(item, (*path, i)) for i, item in enumerate(node.value))
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return {
                    key: self.build(value, (*path, key))
                    for key, value in self._pairs(node, path).items()
                }
            raise self._error(node, path, f"tag {_short(node.tag)!r} is not allowed")

    @contextmanager
    def _entered(self, node: yaml.Node, path: KeyPath) -> Iterator[None]:
        """Count a node as open, and refuse one that is open already."""
        if any(node is other for other in self._open):
            raise self._error(node, path, "a value cannot contain itself")
        self._open.append(node)
        yield
        self._open.pop()

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        convert = _SCALARS.get(node.tag)
        if convert is None:
            raise self._error(node, path, f"tag {_short(node.tag)!r} is not allowed")
        try:
            return convert(node.value)
        except OverflowError as error:
            raise self._error(node, path, f"found {node.value[:40]}, a {error}") from None
        except (ValueError, KeyError):
            what = f"{node.value[:40]!r} is not a {_short(node.tag)}"
            raise self._error(node, path, what) from None

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, yaml.Node]:
        """Return a mapping's entries; its own override merged ones (``<<``)."""
        own: dict[str, yaml.Node] = {}
        lines: dict[str, Mark] = {}
        merged: dict[str, yaml.Node] = {}
        for key, value in node.value:
            is_merge = key.tag == _TAG + "merge"
            if not isinstance(key, yaml.ScalarNode) or not (is_merge or key.tag == _TAG + "str"):
                found = repr(key.value[:40]) if isinstance(key, yaml.ScalarNode) else "a collection"
                raise self._error(key, path, f"keys are text, found {found}")
            if key.value in lines:
                first = lines[key.value].line
                what = f"key {key.value!r} is given twice, first on line {first}"
                raise self._error(key, path, what)
            lines[key.value] = _mark(key)
            if is_merge:
                merged = self._merged(value, path)
            else:
                own[key.value] = value
        for name in own:
            self.marks[*path, name] = lines[name]
        return {**merged, **own}

    def _merged(self, node: yaml.Node, path: KeyPath) -> dict[str, yaml.Node]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, yaml.Node] = {}
        for source in reversed(sources):  # the first source wins
            if not isinstance(source, yaml.MappingNode):
                raise self._error(source, path, "'<<' takes a mapping or a list of mappings")
            with self._entered(source, path):
                merged.update(self._pairs(source, path))
        return merged

    def _error(self, node: yaml.Node, path: KeyPath, what: str) -> UserError:
        where = f"{join(path)}: " if path else ""
        return UserError(f"{self.name}:{_mark(node).line}: {where}{what}")


def _mark(node: yaml.Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _short(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def read_yaml(path: Path, kind: str = "a scenario's YAML file") -> str:
    """Return the text of a YAML file; messages call the expected file ``kind``.

    Raises:
        UserError: If it cannot be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; allowed: {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a directory; allowed: {kind}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UserError(f"{path}:{line}: byte 0x{byte:02x} is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{str(path)!r}: cannot be read: {reason}") from None
