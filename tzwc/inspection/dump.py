"""Everything about a compiled model as files: the graph after every pass, remarks, and the report."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tzwc.errors import InvalidArgumentError
from tzwc.inspection.formats.dot import to_dot
from tzwc.inspection.records import SpecialisationInfo
from tzwc.inspection.report.report import Report, json_safe
from tzwc.inspection.stage import stage_to_dict
from tzwc.inspection.text.python_source import to_python
from tzwc.util.paths import as_path

__all__ = ["VARIABLE", "dump", "requested_folder"]

VARIABLE = "TZWC_DUMP"
"""Environment variable: every graph is written into folders in this one when it is made."""

_logger = logging.getLogger(__name__)
_numbers = itertools.count()


def dump(
    directory: str | os.PathLike[str],
    specialisations: Sequence[SpecialisationInfo],
    *,
    report: Report | None = None,
) -> list[Path]:
    """Write a folder for every specialisation, and return the paths written.

    A folder holds ``NN_stage.py``, ``.json`` and ``.dot`` for every stage in order, ``model_explorer.json`` for
    Google's Model Explorer, ``remarks.json`` and ``report.txt``, ``.md`` and ``.json`` for the specialisation;
    ``directory`` itself gets the report on all of them and ``report.html``, one page that shows everything and opens
    offline. The page needs the extra ``viewer``; without it the reports carry a note that says so.
    Files of earlier dumps with the same names are replaced, each at once and whole; other files are left alone.

    Args:
        directory: created when it does not exist.
        report: the report on the whole model; by default one that is made from ``specialisations``.

    Raises:
        InvalidArgumentError: ``directory`` is a file or cannot be written to, or two specialisations share a name.
    """
    top = as_path(directory)
    whole = report if report is not None else Report("model", tuple(specialisations))
    page, note = _page(whole)
    whole = replace(whole, notes=(*whole.notes, note)) if note else whole
    folders = [_folder_name(info.name) for info in specialisations]
    if len(set(folders)) != len(folders):
        raise InvalidArgumentError(f"specialisations={folders!r} give two folders one name; names must be unique")
    written: list[Path] = []
    try:
        for folder, info in zip(folders, specialisations, strict=True):
            own = Report(whole.model, (info,), versions=whole.versions)
            for name, text in (*_stage_files(info), *_report_files(own)):
                written.append(_write(top / folder / name, text))
        for name, text in _report_files(whole):
            written.append(_write(top / name, text))
        if page is not None:
            written.append(_write(top / "report.html", page))
    except OSError as error:
        raise InvalidArgumentError(
            f"directory={str(directory)!r} cannot be written to ({error.strerror or error}): "
            "expected a directory, or a path where one can be created"
        ) from error
    return written


def requested_folder(model: str) -> Path | None:
    """A new folder for the dumps of a model of this class, where :data:`VARIABLE` asks for them; else ``None``."""
    top = os.environ.get(VARIABLE)
    # Several processes may share the variable, and several models a class.
    return Path(top) / f"{model}-{os.getpid()}-{next(_numbers)}" if top else None


def _page(report: Report) -> tuple[str | None, str]:
    """The page, or a note that says why there is none."""
    from tzwc.inspection.viewer import (
        LibraryMissingError,
        render_page,
    )  # imported when used: compiling needs none of it

    try:
        return render_page(report), ""
    except LibraryMissingError as error:
        note = f"report.html was not written: {error}"
        _logger.warning(note)
        return None, note


def _stage_files(info: SpecialisationInfo) -> Iterator[tuple[str, str]]:
    from tzwc.inspection.viewer import model_explorer

    for number, stage in enumerate(info.stages):
        stem = f"{number:02d}_{_folder_name(stage.name)}"
        yield f"{stem}.py", to_python(stage, root=info.root, slots=info.slots, script=True)
        yield f"{stem}.dot", to_dot(stage, slots=info.slots)
        try:
            yield f"{stem}.json", _json(stage_to_dict(stage, info.root))
        except InvalidArgumentError as error:
            # The other files are worth having even when one argument has no JSON form.
            yield f"{stem}.json", _json({"name": stage.name, "error": str(error)})
    yield "model_explorer.json", json.dumps(model_explorer(info), separators=(",", ":")) + "\n"
    yield "remarks.json", _json(json_safe(info.all_remarks))


def _report_files(report: Report) -> Iterator[tuple[str, str]]:
    yield "report.txt", str(report)
    yield "report.md", report.to_markdown()
    yield "report.json", _json(report.to_dict())


def _json(data: object) -> str:
    return json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _folder_name(name: str) -> str:
    # Names come from shapes and keys, which may hold separators and wildcards.
    return re.sub(r"[^\w.=+-]+", "_", name).strip("._") or "unnamed"


def _write(path: Path, text: str) -> Path:
    """Replace ``path`` in one step, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
