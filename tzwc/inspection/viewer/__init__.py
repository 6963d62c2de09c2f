"""One page that shows what the compiler did: every pass before and after, with origins, costs, history and remarks.

:func:`render_page` makes a single HTML file that needs no network and no server; :func:`model_explorer` gives the same
graphs to Google's Model Explorer. Python collects and embeds the data (``*.py``), the browser draws it (``js/``, plain
scripts that are put into the page as they are).
"""

from __future__ import annotations

from tzwc.inspection.viewer.data import page_data
from tzwc.inspection.viewer.library import LibraryMissingError
from tzwc.inspection.viewer.model_explorer import model_explorer
from tzwc.inspection.viewer.page import render_page
from tzwc.inspection.viewer.serve import find_page, serve

__all__ = ["LibraryMissingError", "find_page", "model_explorer", "page_data", "render_page", "serve"]
