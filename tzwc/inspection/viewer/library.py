"""The layered graph layout that the page uses, from an installed package.

Netron, the viewer for neural networks, ships its layout as one file without dependencies: dagre, reworked until graphs
of thousands of operators are laid out while one watches. The file is not a public interface, so what is needed of it is
checked here, and ``constraints.txt`` pins the release that the tests were run with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tzwc.errors import TzwcError

__all__ = ["LayoutLibrary", "LibraryMissingError", "layout_library"]

_PACKAGE, _FILE = "netron", "netron/dagre.js"
_REMEDY = "pip install 'tzwc[viewer]' and dump again"


class LibraryMissingError(TzwcError):
    """The package that lays out graphs is not installed, or is a release that the page cannot use."""


@dataclass(frozen=True)
class LayoutLibrary:
    """A script that goes into the page.

    Attributes:
        source: an ECMAScript module that exports ``layout(nodes, edges, options, state)``.
        credit: name, release, licence and authors.
    """

    source: str
    credit: str


def layout_library() -> LayoutLibrary:
    """The installed script.

    Raises:
        LibraryMissingError: with what to install.
    """
    try:
        distribution = metadata.distribution(_PACKAGE)
    except metadata.PackageNotFoundError:
        raise LibraryMissingError(f"the page needs the graph layout of the package {_PACKAGE}: {_REMEDY}") from None
    try:
        source = Path(str(distribution.locate_file(_FILE))).read_text(encoding="utf-8")
    except OSError:
        source = ""
    if not re.search(r"^export const \{ layout\b", source, re.MULTILINE):
        raise LibraryMissingError(
            f"{_PACKAGE} {distribution.version} has no graph layout that the page can use: {_REMEDY}"
        )
    credit = f"layout: {_PACKAGE} {distribution.version} (Lutz Roeder), after dagre (Chris Pettitt), MIT licences"
    return LayoutLibrary(source, credit)
