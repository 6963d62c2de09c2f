"""The letters of an einsum equation."""

from __future__ import annotations

import string
from collections.abc import Sequence

__all__ = ["einsum_terms"]


def einsum_terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """One letter for each axis: those of the operands, and those of the result.

    ``"...l,l"`` for operands of 3 and 1 axes gives ``["abl", "l"], "ab"``. An ellipsis stands for the same axes in
    every operand; where it is shorter in one of them, for the last of those.

    Args:
        equation: with or without ``->``.
        ranks: numbers of axes of the operands.

    Returns:
        ``None`` if a letter occurs twice in a term, or the equation does not fit the ranks.
    """
    given, arrow, output = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != len(ranks):
        return None
    hidden = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    if any(n < 0 or (n > 0 and "..." not in t) for n, t in zip(hidden, terms, strict=True)):
        return None
    used = set(equation)
    letters = "".join(c for c in string.ascii_letters if c not in used)[: max(hidden)]
    if not arrow:  # einsum's own rule: the ellipsis, then letters that occur once, in alphabetical order
        once = [c for c in sorted(set(given) - set(".,")) if given.count(c) == 1]
        output = "..." + "".join(once)
    elif "..." not in output and letters:
        return None
    names = [t.replace("...", letters[len(letters) - n :]) for t, n in zip(terms, hidden, strict=True)]
    output = output.replace("...", letters)
    if any(len(set(t)) != len(t) for t in (*names, output)) or not set(output) <= set("".join(names)):
        return None
    return names, output
