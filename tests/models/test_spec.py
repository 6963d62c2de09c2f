"""The declaration: what it refuses, what follows from it, and its plain form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given

from tests.support.model_strategies import specs
from tzwc.errors import SpecError
from tzwc.models import LocalSpec, SlowNetSpec, TerminatorSpec, terminator_spec

LOCAL = {"name": "near", "kernel_size": 3, "kernel_from": "x", "applied_to": "mix"}
LINE = {"axes": "l", "sizes": (9,), "form": "convolution"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": 2}, r"axes = 2: expected a string"),
        ({"axes": "h w d"}, r"axes = 'h w d': expected one or two distinct"),
        ({"axes": "h h"}, r"axes = 'h h': expected one or two distinct"),
        ({"axes": "b c"}, r"axes = 'b c': expected names other than the reserved"),
        ({"sizes": 32}, r"sizes = 32: expected a non-empty sequence"),
        ({"sizes": (32,)}, r"sizes = \(32,\): expected one size for each axis"),
        ({"sizes": (32, 1)}, r"sizes\[1\] = 1: expected an integer of at least 2"),
        ({"sizes": (32, 16)}, r"sizes = \(32, 16\): expected two equal axes"),
        ({**LINE, "form": "dot_product"}, r"sizes = \(9,\): expected two equal axes"),
        ({"form": "convolutions"}, r"form = 'convolutions': expected .*did you mean 'convolution'"),
        ({**LINE, "padding": "valid"}, r"padding = 'valid': expected one of same, causal"),
        ({"padding": "causal"}, r"padding = 'causal': expected 'same'"),
        ({"in_channels": 0}, r"in_channels = 0: expected an integer of at least 1"),
        ({"in_channels": True}, r"in_channels = True: expected an integer"),
        ({"classes": 2.0}, r"classes = 2.0: expected an integer"),
        ({"factors": ()}, r"factors = \(\): expected a non-empty sequence"),
        ({"factors": (4, 0)}, r"factors\[1\] = 0: expected an integer"),
        ({"factors": (5,)}, r"groups = 12: expected a divisor of the 15 channels that block 0 gives"),
        ({"groups": 3}, r"groups = 3: expected an even integer"),
        ({"dropout": 1.0}, r"dropout = 1.0: expected a number in \[0, 1\)"),
        ({"dropout": ()}, r"dropout = \(\): expected a number or a non-empty"),
        ({"global_net": {"hidden": 0}}, r"hidden = 0: expected an integer of at least 1"),
        ({"global_net": {"hidden": 8, "layers": ()}}, r"layers = \(\): expected a non-empty"),
        ({"local_net": {"hidden": 8, "omega_0": 0}}, r"omega_0 = 0: expected a positive finite number"),
        ({"hci_net": {"hiden": 8}}, r"hci_net.hiden.*did you mean 'hidden'"),
        ({"hci_net": {"layers": 2}}, r"hci_net = .*expected also hidden"),
        ({"hci_net": 64}, r"hci_net = 64: expected a SlowNetSpec"),
        ({"local": 1}, r"local = 1: expected a sequence"),
        ({"local": [1]}, r"local\[0\] = 1: expected a LocalSpec"),
        ({"local": [{**LOCAL, "kernel_size": 4}]}, r"kernel_size = 4: expected an odd integer"),
        ({"local": [{**LOCAL, "name": "fast"}]}, r"name = 'fast': expected a name other than the built-in"),
        ({"local": [{**LOCAL, "name": "skip1"}]}, r"name = 'skip1': expected a name other than"),
        ({"local": [LOCAL, LOCAL], "concat": ["near"]}, r"local\[1\].name = 'near': expected a name that is not taken"),
        ({"local": [{**LOCAL, "kernel_from": "mixx"}]}, r"local\[0\].kernel_from = 'mixx'.*did you mean 'mix'"),
        (
            {"local": [{**LOCAL, "applied_to": "far"}, {**LOCAL, "name": "far"}]},
            r"'far': expected a branch defined before",
        ),
        ({"local": [LOCAL], "concat": ["out"]}, r"local\[0\].name = 'near': expected a branch that 'concat' needs"),
        ({"concat": "out"}, r"concat = 'out': expected a sequence"),
        ({"concat": ["outt"], "local": []}, r"concat = 'outt': expected .*did you mean 'out'"),
        ({"concat": ["out", "out"], "local": []}, r"concat = .*: expected each branch once"),
        ({"concat": ["skip1"], "local": []}, r"expected at least one branch that is not a skip"),
        ({"skips": [(), ()]}, r"skips = .*: expected 5 entries"),
        ({"skips": [(), (1,), (), (), ()]}, r"skips\[1\] = 1: expected the index of a block before block 1"),
        ({"skips": [(), (), (0, 0, 0), (), ()]}, r"skips\[2\] = .*: expected 'concat' to name 'skip3'"),
        ({"skips": [(), 0, (), (), ()]}, r"skips\[1\] = 0: expected a sequence"),
        (
            {"factors": (4, 2, 1), "sizes": (8, 8), "concat": ["skip1", "out"], "local": [], "skips": [(), (), (3,)]},
            r"skips\[2\] = 3",
        ),
    ],
)
def test_bad_declarations_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TerminatorSpec(**fields)


def test_defaults_are_the_released_configuration() -> None:
    spec = TerminatorSpec()
    assert spec.channels == (3, 12, 36, 72, 144, 288)
    assert spec.skips == ((), (), (0,), (1,), (2, 1))
    assert [spec.global_net.layers_of(block) for block in range(5)] == [3, 2, 2, 2, 2]
    assert [spec.dropout_of(block) for block in range(5)] == [0.0, 0.05, 0.05, 0.05, 0.05]
    assert spec.concat_of(0) == ("out", "l2", "fast", "out_x", "l1", "glu", "l3", "out_h", "l4", "hyp")
    assert len(spec.concat_of(4)) == 12


def test_only_needed_branches() -> None:
    assert TerminatorSpec(local=[], concat=["glu"]).branches == {"x", "fast", "out", "glu"}
    assert TerminatorSpec(local=[LOCAL], concat=["near"]).branches == {"x", "mix", "near"}


def test_values_per_block_have_one_form() -> None:
    assert SlowNetSpec(hidden=8, layers=(3, 2, 2, 2)) == SlowNetSpec(hidden=8, layers=[3, 2])
    assert SlowNetSpec(hidden=8, layers=(2, 2)) == SlowNetSpec(hidden=8, layers=2)


@given(specs())
def test_plain_form_round_trips(spec: TerminatorSpec) -> None:
    assert TerminatorSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_declarations_are_frozen_and_hashable() -> None:
    spec = terminator_spec("digits")
    assert hash(spec) == hash(terminator_spec("digits"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.classes = 3  # type: ignore[misc]
    assert isinstance(spec.local[0], LocalSpec)


def test_unknown_fields_are_refused_with_a_suggestion() -> None:
    with pytest.raises(SpecError, match="did you mean 'classes'"):
        TerminatorSpec.from_dict({"clases": 3})
