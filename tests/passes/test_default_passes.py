"""The documented pipeline as a whole."""

from __future__ import annotations

import pytest

from tzwc.errors import InvalidArgumentError
from tzwc.passes import DEFAULT_PASSES, by_name


def test_order_is_the_documented_one():
    order = [p.name for p in DEFAULT_PASSES]
    documented = ["normalize", "cse", "fuse_hyperzzw", "select_convolution", "hoist_static"]
    assert [name for name in order if name in documented] == documented
    assert all(by_name(p.name) is p for p in DEFAULT_PASSES)


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(InvalidArgumentError, match="'fuse' is unknown; choose among normalize, cse"):
        by_name("fuse")
