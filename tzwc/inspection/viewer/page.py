"""The page itself: one HTML file with data, scripts and styles inside.

Names, reasons and lines of source code come from the user's program and are never trusted: they travel as JSON in which
no ``<`` occurs, the scripts put them into the page as text, and a content security policy admits only the scripts that
were written here, by their hash, and no network at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import Any

from tzwc.inspection.report.report import Report
from tzwc.inspection.viewer.data import page_data
from tzwc.inspection.viewer.library import layout_library

__all__ = ["embed_json", "render_page"]

SCRIPTS = (
    "elements", "model", "layout", "viewport", "drawing", "details", "search", "graph", "tables", "charts", "kernels",
    "main",
)  # fmt: skip
"""Our scripts, in the order in which they are joined into one."""


def render_page(report: Report) -> str:
    """The page on a model as HTML text.

    Raises:
        LibraryMissingError: the package that lays out graphs is not installed.
    """
    library = layout_library()
    script = "\n".join(_asset(f"js/{name}.js") for name in SCRIPTS)
    worker = _asset("js/worker.js")
    style = _asset("style.css")
    # Parts are joined rather than formatted: braces and dollars are common in all of them.
    parts = {
        "TITLE": html.escape(f"tzwc · {report.model}"),
        "CREDIT": html.escape(library.credit).replace("--", "- -"),
        "POLICY": _policy(script, style),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": embed_json(page_data(report)),
        "LAYOUT": embed_json({"library": library.source, "worker": worker, "credit": library.credit}),
    }
    pieces = _asset("page.html").split("%%")
    text = "".join(parts[piece] if position % 2 else piece for position, piece in enumerate(pieces))
    # Unpaired surrogates, which names of files may hold, have no UTF-8 form.
    return text.encode("utf-8", "replace").decode("utf-8")


def embed_json(data: Any) -> str:
    """JSON that can stand inside a ``script`` element whatever its texts are, and that every parser reads alike."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(script: str, style: str) -> str:
    return (
        "default-src 'none'; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)} blob:; style-src {_hash(style)}"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return resources.files("tzwc.inspection.viewer").joinpath(name).read_text(encoding="utf-8")
