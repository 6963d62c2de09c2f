"""What nobody should give to a program: values of every kind, and valid ones with something wrong in them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from tzwc.errors import TzwcError

__all__ = ["answer", "damaged", "data", "mutated", "objects", "texts"]

texts = st.one_of(
    st.sampled_from(
        [
            *("", " ", "x", "0", "-1", "1e400", "nan", "None", "__class__", "../..", "/dev/zero", "a.b.c", ":", "::"),
            *(
                "lambda: 0",
                "__import__('os').system('false')",
                "é",
                "\ud800",
                "\0",
                "\n",
                "x" * 300,
                "float32",
                "skip1",
            ),
        ]
    ),
    st.text(max_size=8),
)
"""Also of characters that no encoding has."""

_numbers = st.one_of(
    st.integers(-3, 9),
    st.sampled_from(
        [2**31, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 0.5, 5e-324, 1.7e308, math.inf, -math.inf, math.nan]
    ),
)

data = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
"""What a JSON file may hold, and the numbers that some writers put there."""


class _Nameless:
    """An object of a class that nobody knows."""

    def __repr__(self) -> str:
        return "_Nameless()"


objects = st.one_of(
    data,
    st.builds(
        lambda make: make(),
        st.sampled_from(
            [
                *(_Nameless, lambda: _Nameless, bytes, set, dict, tuple, lambda: b"\xff", lambda: 1j, lambda: ...),
                *(lambda: np.float32(2.0), lambda: np.int64(3), lambda: np.array([1, 2]), lambda: torch.ones(2)),
                *(
                    lambda: torch.tensor(3),
                    lambda: torch.float32,
                    lambda: (1, (2, "a")),
                    lambda: [[], [1]],
                    lambda: len,
                ),
            ]
        ),
    ),
)
"""What a program may be given by another one."""


@st.composite
def mutated(draw: st.DrawFn, valid: Any, values: st.SearchStrategy[Any] = data, most: int = 2) -> Any:
    """``valid``, nested lists and dictionaries, with up to ``most`` parts replaced, left out, doubled or moved."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, most))):
        value = _once(draw, value, values)
    return value


def _once(draw: st.DrawFn, value: Any, values: st.SearchStrategy[Any]) -> Any:
    places = list(_places(value))
    if not places:
        return draw(values)
    holder, key = draw(st.sampled_from(places))
    what = draw(st.sampled_from(["replace", "replace", "remove", "double", "move", "wrap", "rename"]))
    if what == "replace":
        holder[key] = draw(values)
    elif what == "remove":
        del holder[key]
    elif what == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif what == "rename" and isinstance(holder, dict):
        holder[draw(texts)] = holder.pop(key)
    elif what == "wrap":
        holder[key] = draw(st.sampled_from([[holder[key]], {"value": holder[key]}]))
    else:
        other, other_key = draw(st.sampled_from(places))
        if isinstance(other, Mapping) or other_key < len(other):
            holder[key] = copy.deepcopy(other.get(other_key) if isinstance(other, Mapping) else other[other_key])
    return value


def _places(value: Any) -> Any:
    """Every entry of every container, as container and key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from _places(item)


@st.composite
def damaged(draw: st.DrawFn, valid: bytes, foreign: Sequence[bytes] = ()) -> bytes:
    """The bytes of a file with up to three things wrong, or those of another one."""
    others = [b"", b"\0" * 64, b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04", b"\x80\x04K\x01.", *foreign]
    if draw(st.integers(0, 7)) == 0:
        return draw(st.one_of(st.sampled_from(others), st.binary(max_size=64)))
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        # Headers are where it matters, so half of all places are near the beginning.
        place = draw(
            st.one_of(st.integers(0, max(0, len(content) - 1)), st.integers(0, min(63, max(0, len(content) - 1))))
        )
        what = draw(st.sampled_from(["flip", "flip", "set", "cut", "drop", "insert", "repeat"]))
        if what == "flip" and content:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif what == "set":
            content[place : place + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"9999"])
            )
        elif what == "cut":
            del content[place:]
        elif what == "drop":
            del content[place : place + draw(st.integers(1, 16))]
        elif what == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            content[place:place] = content[place : place + 32]
    return bytes(content)


def answer(call: Callable[[], Any]) -> Any:
    """The result of ``call``, or the error that tzwc raises on purpose; any other exception goes on."""
    try:
        return call()
    except TzwcError as error:
        found = error
    assert str(found), "an error that says nothing"
    return found
