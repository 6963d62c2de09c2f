"""Agreement with the released implementation, recorded in float64 in ``tests/data``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tzwc.errors import InvalidArgumentError
from tzwc.models import (
    Kar3,
    Terminator,
    TerminatorSpec,
    label_smoothing_cross_entropy,
    load_released,
    released_state,
    terminator,
)

DATA = Path(__file__).parents[1] / "fixtures"
NOISE = 1e-13
"""Gradients that are zero in exact arithmetic are below this; all others are above it."""


class Golden:
    def __init__(self, name: str) -> None:
        with np.load(DATA / f"released_{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files}
        self.meta: dict[str, Any] = json.loads(str(self.arrays["meta"]))
        self.state = {k.removeprefix("state/"): v for k, v in self.arrays.items() if k.startswith("state/")}
        self.labels = self["labels"]
        self.input = self["input"]

    def __getitem__(self, key: str) -> Tensor:
        return torch.as_tensor(self.arrays[key])

    def model(self) -> Terminator:
        return load_released(self.state).eval()  # evaluation: the recording has no dropout


@pytest.fixture(params=["tiny", "small"], scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == torch.float64
    deviation = (actual.detach() - expected).abs().max() / expected.abs().max()
    assert deviation <= tolerance, f"relative deviation {deviation:.1e}"


def test_declaration_follows_from_the_shapes(golden: Golden) -> None:
    spec, meta = golden.model().spec, golden.meta
    hidden = meta["hidden"]
    assert spec.sizes == (meta["size"],) * 2
    assert list(spec.channels[:-1]) == meta["in_channels"]
    assert list(spec.factors) == meta["bottleneck_factors"]
    assert spec.classes == meta["classes"]
    assert [spec.global_net.layers_of(i) for i in range(spec.blocks)] == meta["global_layers"]
    assert [branch.kernel_size for branch in spec.local] == meta["local_kernel_sizes"]
    assert [len(spec.skips_of(i)) for i in range(spec.blocks)] == meta["num_concat_pre"]
    assert spec.skips == TerminatorSpec().skips
    nets = (spec.global_net, spec.local_net, spec.hci_net, spec.interaction_channel_net, spec.interaction_spatial_net)
    keys = ("global_", "local", "hyper_channel", "hyper_interaction_channel", "hyper_interaction_spatial")
    assert [net.hidden for net in nets] == [hidden[key] for key in keys]


def test_forward(golden: Golden) -> None:
    model = golden.model()
    outputs: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    logits, channel_sum = model(golden.input, slow_loss="channel_sum")
    for i, (output, kernel) in enumerate(zip(outputs, model.global_kernels(), strict=True)):
        close(output, golden[f"block/{i}"])
        close(kernel, golden[f"global_kernel/{i}"])
    close(logits, golden["logits"])
    close(channel_sum, golden["slow_loss"])
    close(model(golden.input, slow_loss="tile")[1], golden["slow_loss_tile"])
    close(label_smoothing_cross_entropy(logits, golden.labels), golden["ce_loss"])


def test_gradients(golden: Golden) -> None:
    model = golden.model()
    logits, slow = model(golden.input, slow_loss="channel_sum")
    (label_smoothing_cross_entropy(logits, golden.labels) + slow).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.grad  # so that the gradients take the released names
    for name, gradient in released_state(model).items():
        expected = golden[f"grad/{name}"]
        if expected.abs().max() < NOISE:
            assert gradient.abs().max() < NOISE, name
        else:
            close(gradient, expected, 1e-8)


def test_kar3_steps(golden: Golden) -> None:
    model, hyper = golden.model(), golden.meta["kar3"]
    optimizer = Kar3(model.parameters(), lr=hyper["lr"], betas=tuple(hyper["betas"]))
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        logits, slow = model(golden.input, slow_loss="channel_sum")
        loss = label_smoothing_cross_entropy(logits, golden.labels) + slow
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    close(torch.stack(losses), golden["kar3_losses"], 1e-8)


def test_round_trip(golden: Golden) -> None:
    state = released_state(golden.model())
    assert state.keys() == golden.state.keys()
    for name, value in state.items():
        assert torch.equal(value, torch.as_tensor(golden.state[name])), name
    again = load_released(state)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), golden.model().parameters(), strict=True))


def test_spelling_of_later_releases(golden: Golden) -> None:
    later = {}
    for name, value in golden.state.items():
        new = name.replace("slow_net_gc_hi", "slow_net_gc").replace("slow_net_gs_hi", "slow_net_gs")
        later[new.replace("rgu.bias_p", "rgu.fast_bias_p").replace("rgu_2.bias_p", "rgu_2.fast_bias_p")] = value
    assert later.keys() != golden.state.keys()
    close(load_released(later).eval()(golden.input), golden["logits"])


def test_dtype_of_the_state_is_kept(golden: Golden) -> None:
    model = load_released({name: torch.as_tensor(value).float() for name, value in golden.state.items()})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_entries_are_copied() -> None:
    state = released_state(Golden("tiny").model())
    model = load_released(state)
    with torch.no_grad():
        model.head.bias.add_(1)
    assert not torch.equal(model.head.bias, state["out_layer.bias"])


BIAS = "blocks.1.fast_multi_branch.bias2"
MIXER = "blocks.1.fast_multi_branch.channel_mixer_mlp.weight"
BOTTLENECK = "blocks.0.fast_multi_branch.bottleneck_layer.weight"
FILTER = "blocks.2.fast_multi_branch.slow_net_g.Kernel.filters.0.linear.weight"
LOCAL = "blocks.{}.fast_multi_branch.slow_net_l2.Kernel.filters.0.linear.weight"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({BIAS: None}, rf"lacks '{BIAS}': expected shape \(1,\)"),
        ({MIXER: None}, rf"lacks '{MIXER}': expected a tensor of rank 4"),
        ({"extra": np.zeros((2, 3))}, r"unexpected entries, such as 'extra' of shape \(2, 3\)"),
        ({BIAS: np.zeros(2)}, rf"'{BIAS}' has shape \(2,\): expected \(1,\)"),
        ({MIXER: np.zeros((12, 12))}, rf"'{MIXER}' has shape \(12, 12\): expected rank 4"),
        ({BIAS: np.zeros(1, dtype=np.float32)}, rf"'{BIAS}' has dtype torch.float32: expected torch.float64"),
        (
            {BOTTLENECK: np.zeros((12, 27, 1, 1))},
            rf"'{BOTTLENECK}' has shape \(12, 27, 1, 1\): expected a multiple of 3",
        ),
        ({FILTER: np.zeros((9, 2, 1, 1))}, r"'slow_net_g' has hidden channels \[16, 16, 9, 16, 16\]"),
        ({LOCAL.format(i): np.zeros((9, 2, 1, 1)) for i in range(5)}, r"'slow_net_l2' is SlowNetSpec\(hidden=9"),
        ({BIAS.replace("bias2", "Fast_Kernel_rgu.fast_bias_p"): np.zeros(1)}, "appears in both spellings"),
    ],
)
def test_bad_state_is_refused(changes: dict[str, Any], message: str) -> None:
    state = {**Golden("tiny").state, **changes}
    with pytest.raises(InvalidArgumentError, match=message):
        load_released({name: value for name, value in state.items() if value is not None})


def test_foreign_states_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="expected names such as"):
        load_released({})
    branch = {"name": "near", "kernel_size": 3, "kernel_from": "x", "applied_to": "x"}
    with pytest.raises(InvalidArgumentError, match="has no released name"):
        released_state(terminator("digits", local=[branch], concat=["out", "near"]))
