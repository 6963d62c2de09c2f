"""A document as data, and the ways to show it: plain text for a terminal, Markdown, rich.

A report is composed once from these blocks, so that no two forms of it can disagree.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

__all__ = [
    "Block",
    "Bullets",
    "Facts",
    "Heading",
    "Paragraph",
    "Presented",
    "Table",
    "markdown",
    "plain",
    "rich_blocks",
]

WIDTH = 100


@dataclass(frozen=True)
class Heading:
    """A title; ``level`` 1 is the document's own."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Short names with what holds for them."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Bullets:
    """Items, each with further lines of detail below it."""

    items: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Table:
    """Rows under a header; columns named in ``numeric`` are aligned right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()


Block: TypeAlias = Heading | Paragraph | Facts | Bullets | Table


def plain(blocks: Iterable[Block]) -> str:
    """Plain text of at most 100 columns, as far as words and table cells allow."""
    lines: list[str] = []
    for block in blocks:
        if lines and not (isinstance(block, Heading) and block.level > 2 and lines[-1] == ""):
            lines.append("")
        lines += _plain(block)
    return "\n".join(lines) + "\n"


def _plain(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield block.text
        if block.level <= 2:
            yield ("=" if block.level == 1 else "-") * min(len(block.text), WIDTH)
    elif isinstance(block, Paragraph):
        yield from _fill(block.text, "")
    elif isinstance(block, Facts):
        column = max((len(name) for name, _ in block.pairs), default=0) + 4
        for name, text in block.pairs:
            yield from _fill(text, f"  {name}".ljust(column), " " * column)
    elif isinstance(block, Bullets):
        for item, details in block.items:
            yield from _fill(item, "  - ", "    ")
            for detail in details:
                yield from _fill(detail, "      ", "        ")
    else:
        yield from _plain_table(block)


def _fill(text: str, first: str, rest: str | None = None) -> list[str]:
    # Paths and operator names stay whole: a reader copies them.
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain_table(table: Table) -> Iterator[str]:
    rows = [table.header, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    # The last column takes what is left and wraps within it.
    last = max(20, WIDTH - 2 - sum(widths[:-1]) - 2 * (len(widths) - 1))
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if name in table.numeric else cell.ljust(width)
            for cell, width, name in zip(row, widths, table.header, strict=True)
        ]
        if table.header[-1] in table.numeric:
            yield "  " + "  ".join(cells)
        else:
            lead = "  " + "".join(f"{cell}  " for cell in cells[:-1])
            tail = textwrap.wrap(row[-1], last, break_long_words=False, break_on_hyphens=False) or [""]
            yield (lead + tail[0]).rstrip()
            yield from (" " * len(lead) + line for line in tail[1:])
        if number == 0:
            yield "  " + "  ".join("-" * min(width, last) for width in widths)


def markdown(blocks: Iterable[Block]) -> str:
    """GitHub-flavoured Markdown."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_escape(block.text)}")
        elif isinstance(block, Paragraph):
            parts.append(_escape(block.text))
        elif isinstance(block, Facts):
            parts.append("\n".join(f"- **{_escape(name)}**: {_escape(text)}" for name, text in block.pairs))
        elif isinstance(block, Bullets):
            lines = []
            for item, details in block.items:
                lines.append(f"- {_escape(item)}")
                lines += [f"  - {_escape(detail)}" for detail in details]
            parts.append("\n".join(lines))
        else:
            rule = ["---:" if name in block.numeric else "---" for name in block.header]
            rows: Sequence[Sequence[str]] = [block.header, *block.rows]
            lines = [f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows]
            parts.append("\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]]))
    return "\n\n".join(parts) + "\n"


def _escape(text: str) -> str:
    # An underscore within a word is no markup.
    return re.sub(r"[\\`*|<\[]|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def rich_blocks(blocks: Iterable[Block]) -> Iterator[RenderableType]:
    """Renderables for a rich console, which adapts them to its own width."""
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    for block in blocks:
        if isinstance(block, Heading):
            style = {1: "bold underline", 2: "bold cyan"}.get(block.level, "bold")
            yield Text(f"\n{block.text}" if block.level > 1 else block.text, style=style)
        elif isinstance(block, Paragraph):
            yield Text(block.text)
        elif isinstance(block, Facts):
            facts = RichTable.grid(padding=(0, 2))
            for name, text in block.pairs:
                facts.add_row(Text(name, style="dim"), Text(text))
            yield Padding(facts, (0, 0, 0, 2))
        elif isinstance(block, Bullets):
            for item, details in block.items:
                yield Padding(Text(f"• {item}"), (0, 0, 0, 2))
                yield from (Padding(Text(detail, style="dim"), (0, 0, 0, 6)) for detail in details)
        else:
            table = RichTable(box=None, padding=(0, 2, 0, 0))
            for name in block.header:
                table.add_column(name, justify="right" if name in block.numeric else "left", overflow="fold")
            for row in block.rows:
                table.add_row(*(Text(cell) for cell in row))
            yield Padding(table, (0, 0, 0, 2))


class Presented:
    """What can be printed, shown with rich and written as Markdown, all from its blocks."""

    def blocks(self) -> list[Block]:
        """What is shown."""
        raise NotImplementedError

    def __str__(self) -> str:
        return plain(self.blocks())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield from rich_blocks(self.blocks())

    def to_markdown(self) -> str:
        """It as GitHub-flavoured Markdown."""
        return markdown(self.blocks())
