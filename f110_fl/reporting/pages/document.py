"""One HTML file from a template, scripts, styles and data, which needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname


def assemble(
    template: str,
    scripts: Sequence[str],
    styles: Sequence[str],
    data: Mapping[str, Any],
    connect: str = "'none'",
) -> str:
    """Return a page as HTML.

    Its only script and its only style are let through by their hashes, and nothing may be
    loaded (Content Security Policy, W3C), so names in the data cannot become either.

    Args:
        template: Name of the file, below ``web/``, with the marks ``@policy@``, ``@style@``,
            ``@data@`` and ``@script@``.
        scripts: Names of the scripts, joined in this order into one: each uses only what stands
            before it.
        styles: Names of the style sheets, likewise.
        data: The page's data, for JSON.
        connect: What the page may fetch (``connect-src``): nothing, unless it is served.
    """
    script, style = "\n".join(map(asset, scripts)), "\n".join(map(asset, styles))
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}"
    parts = {
        "policy": policy if connect == "'none'" else f"{policy}; connect-src {connect}",
        "style": style,
        "data": json_text(data),
        "script": script,
    }
    # In one pass, so that marks in the parts themselves stay what they are.
    return re.sub("@(policy|style|data|script)@", lambda mark: parts[mark[1]], asset(template))


def json_text(data: Mapping[str, Any]) -> str:
    """Return data as JSON that can stand in an element of HTML: it never ends it."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def asset(name: str) -> str:
    """Read a file of a page, by its name below ``web/``.

    Raises:
        FileNotFoundError: If it is neither in this package nor in the installed one.
    """
    return (_web() / name).read_text(encoding="utf-8")


def _web() -> Traversable:
    """The pages' directory; in a Flower app's bundle, which cannot hold any, the installed one."""
    own = files("f110_fl.reporting") / "web"
    if own.is_dir():
        return own
    try:
        installed = distribution("f110-fl")
    except PackageNotFoundError:
        missing = "the pages are not in a Flower app's bundle, and f110-fl is not installed"
        raise FileNotFoundError(missing) from None
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):  # PEP 610
        return Path(url2pathname(urlsplit(origin["url"]).path)) / "f110_fl" / "reporting" / "web"
    return Path(str(installed.locate_file("f110_fl/reporting/web")))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
