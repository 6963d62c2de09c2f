"""A released state with anything wrong in it is a model or an ``InvalidArgumentError``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.hostile_input import answer, objects, texts
from tests.support.valid_files import valid
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, load_released


def checked(found: Any) -> None:
    assert isinstance(found, (Terminator, InvalidArgumentError)), found


def test_the_valid_one_is_valid() -> None:
    assert isinstance(load_released(valid()), Terminator)


@settings(max_examples=examples(10))
@given(st.data())
def test_mutated_states(draw: st.DataObject) -> None:
    state: dict[Any, Any] = dict(valid())
    for name in draw.draw(st.lists(st.sampled_from([*state]), min_size=1, max_size=2, unique=True)):
        value = state.pop(name)
        what = draw.draw(st.sampled_from(["remove", "rename", "block", "shape", "rank", "dtype", "object", "alias"]))
        if what == "rename":
            state[draw.draw(st.one_of(texts, st.sampled_from([1, None, ("a",)])))] = value
        elif what == "block":
            state[
                name.replace("blocks.0.", draw.draw(st.sampled_from(["blocks.7.", "blocks.00.", "blocks.999999999."])))
            ] = value
        elif what == "shape":
            sizes = list(value.shape) or [1]
            sizes[draw.draw(st.integers(0, len(sizes) - 1))] = draw.draw(st.integers(0, 9))
            state[name] = np.zeros(sizes, value.dtype)
        elif what == "rank":
            state[name] = value.reshape(-1)
        elif what == "dtype":
            state[name] = value.astype(draw.draw(st.sampled_from(["f8", "f2", "i4", "c8", "?", ">f4", "U3", "O"])))
        elif what == "object":
            state[name] = draw.draw(objects)
        elif what == "alias":
            state[name] = state[name.replace("slow_net_gc_hi", "slow_net_gc")] = value
    checked(answer(lambda: load_released(state)))


@settings(max_examples=examples(10))
@given(objects)
@example({"blocks.0.bias": torch.ones(1)})
@example({"blocks.0.fast_multi_branch.slow_net_g.Kernel.bias_p": torch.ones(1, 1, 0, 0)})
def test_foreign_states(state: Any) -> None:
    checked(answer(lambda: load_released(state)))


def test_a_small_state_does_not_ask_for_a_large_model() -> None:
    """Sizes from different entries, multiplied, are not believed before every entry has been compared."""
    state = {name: torch.as_tensor(value) for name, value in valid().items()}
    state["out_layer.weight"] = (
        state["out_layer.weight"].new_zeros(1, 1).expand(2**40, state["out_layer.weight"].shape[1])
    )
    checked(answer(lambda: load_released(state)))
