"""What dict watches notice, each case with every implementation."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.support.watch_twins import Twin

CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "set": lambda d: d.__setitem__("c", 3),
    "rebind": lambda d: d.__setitem__("a", object()),
    "delete": lambda d: d.__delitem__("a"),
    "pop": lambda d: d.pop("b"),
    "popitem": lambda d: d.popitem(),
    "update": lambda d: d.update(a=object()),
    "or": lambda d: d.__ior__({"z": 1}),
    "setdefault": lambda d: d.setdefault("z"),
    "clear": lambda d: d.clear(),
    "moved to the end": lambda d: d.__setitem__("a", d.pop("a")),
    "equal value": lambda d: d.__setitem__("b", [1000]),
}


@pytest.mark.parametrize(
    "kind", [dict, OrderedDict, lambda d: defaultdict(list, d)], ids=["dict", "ordered", "default"]
)
@pytest.mark.parametrize("case", CHANGES)
def test_notices(dict_twin: Twin, case: str, kind: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    dicts = [{}, kind({"a": object(), "b": [1000]}), {"x": 1}]
    watch = dict_twin.dicts(dicts)
    assert not watch.changed()
    CHANGES[case](dicts[1])
    assert watch.changed()
    assert not dict_twin.dicts(dicts).changed()


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_reading_and_what_happens_inside_values_is_no_change(dict_twin: Twin, kind: type[dict[Any, Any]]) -> None:
    d = kind({"a": [1], "b": {}})
    watch = dict_twin.dicts([d])
    d["a"].append(2)
    d["b"]["x"] = 3
    _ = d.get("q"), list(d), d.copy(), "a" in d, d.setdefault("a"), dict(**d)
    assert not watch.changed()


def test_order_of_ordered_dicts(dict_twin: Twin) -> None:
    d = OrderedDict(a=1, b=2)
    watch = dict_twin.dicts([d])
    d.move_to_end("a")
    assert watch.changed()


def test_attributes_of_modules(dict_twin: Twin) -> None:
    """Also those that specialised bytecode writes, past the functions of dict."""
    module = nn.Linear(2, 2)

    def write(value: object) -> None:
        module.some_attribute = value

    object.__setattr__(module, "some_attribute", -1)
    for i in range(100):
        watch = dict_twin.dicts([module.__dict__])
        assert not watch.changed()
        write(i)
        assert watch.changed()
    watch = dict_twin.dicts([module._parameters])
    module.weight = nn.Parameter(torch.ones(2, 2))
    assert watch.changed()


def test_attributes_written_by_specialised_bytecode(dict_twin: Twin) -> None:
    class Plain:
        def __init__(self) -> None:
            self.value = 0

    plain = Plain()
    for i in range(1000):
        watch = dict_twin.dicts([plain.__dict__])
        plain.value = object()
        assert watch.changed(), i


def test_wrong_arguments(dict_twin: Twin) -> None:
    with pytest.raises(TypeError, match="entry 1 is not a dict but NoneType"):
        dict_twin.dicts([{}, None])
    assert not dict_twin.dicts([]).changed()


@st.composite
def _mutation(draw: st.DrawFn) -> Callable[[dict[int, Any]], object]:
    key, value = draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, "x", None]))
    return draw(
        st.sampled_from(
            [
                lambda d: d.__setitem__(key, value),
                lambda d: d.pop(key, None),
                lambda d: d.update({key: value, 1: value}),
                lambda d: d.clear(),
                lambda d: d.get(key),
                lambda d: d.setdefault(key, value),
                lambda d: isinstance(d, OrderedDict) and key in d and d.move_to_end(key),
            ]
        )
    )


@given(kinds=st.lists(st.sampled_from([dict, OrderedDict]), min_size=1, max_size=3), data=st.data())
def test_random_mutations(native: Twin, kinds: list[type[dict[int, Any]]], data: st.DataObject) -> None:
    dicts = [kind({i: i for i in range(data.draw(st.integers(0, 4)))}) for kind in kinds]
    before = [list(d.items()) for d in dicts]
    python, lockstep = Twin().dicts(dicts), Twin(native.module, lockstep=True).dicts(dicts)
    versions = native.dicts(dicts)
    for _ in range(data.draw(st.integers(0, 4))):
        data.draw(_mutation())(data.draw(st.sampled_from(dicts)))
        same = all(
            len(d) == len(old) and all(a is b and x is y for (a, x), (b, y) in zip(d.items(), old, strict=True))
            for d, old in zip(dicts, before, strict=True)
        )
        assert python.changed() == (not same)
        assert lockstep.changed() or same
        assert versions.changed() or same  # may also tell of what was put back
