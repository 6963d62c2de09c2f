"""Arguments that a file can show and not hold, and forms that no file has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.inspection_cases import case
from tzwc.errors import InvalidArgumentError
from tzwc.inspection.formats.json_arguments import decode, encode


def test_symbolic_arguments_are_shown_and_not_read() -> None:
    size = case("shapes").stages[0].graph.find_nodes(op="placeholder")[0].meta["val"].shape[0]
    assert encode([size * 2]) == [{"symbol": f"2*{size}"}]
    with pytest.raises(InvalidArgumentError, match=r"compute it with nodes \(aten.sym_size.int\)"):
        decode(encode(size), {})


@pytest.mark.parametrize("data", [{"function": "eval"}, {}, {"dtype": "float32", "shape": [1]}, {1: 2}, object()])
def test_arguments_of_an_unknown_kind_are_refused(data: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot be read: expected the form written by"):
        decode(data, {})
