"""Find the page of a dump, open it, or serve it on this machine."""

from __future__ import annotations

import functools
import webbrowser
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from tzwc.errors import InvalidArgumentError
from tzwc.util.paths import is_file, is_folder

__all__ = ["find_page", "serve", "view"]

PAGE = "report.html"


def find_page(target: Path) -> Path:
    """The page at ``target``, which is a page or a folder that ``dump`` wrote.

    Raises:
        InvalidArgumentError: there is none; the message says why and what to do.
    """
    if is_file(target):
        if target.suffix.lower() not in (".html", ".htm"):
            raise InvalidArgumentError(f"target={str(target)!r} is not a page: expected {PAGE} or the folder of a dump")
        return target
    if not is_folder(target):
        raise InvalidArgumentError(f"target={str(target)!r} does not exist: expected {PAGE} or the folder of a dump")
    page = target / PAGE
    if is_file(page):
        return page
    if is_file(target / "report.json"):
        raise InvalidArgumentError(
            f"target={str(target)!r} is a dump without {PAGE}: pip install 'tzwc[viewer]' and dump again"
        )
    raise InvalidArgumentError(f"target={str(target)!r} holds no {PAGE}: expected a folder that dump() wrote")


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: one reader on one machine needs no log."""


def serve(page: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of the folder of ``page``, bound to 127.0.0.1 alone; call ``serve_forever`` on it.

    Args:
        port: 0 for any that is free.

    Raises:
        InvalidArgumentError: the port cannot be had.
    """
    handler = functools.partial(_Handler, directory=str(page.parent))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise InvalidArgumentError(f"port={port} cannot be served ({error}); choose another, or 0 for any") from error


def view(target: Path, *, serve_it: bool, port: int, open_it: bool, say: Callable[[str], None]) -> None:
    """Open the page at ``target`` in a browser, from the file or from a server that runs until it is interrupted.

    Args:
        say: gets the address of the page, for readers whose browser cannot be opened from here.
    """
    page = find_page(target)
    if not serve_it:
        address = page.resolve().as_uri()
        say(address)
        if open_it:
            webbrowser.open(address)
        return
    with serve(page, port) as server:
        address = f"http://127.0.0.1:{server.server_port}/{quote(page.name)}"
        say(f"{address} (until interrupted)")
        if open_it:
            webbrowser.open(address)
        server.serve_forever()
