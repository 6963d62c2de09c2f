"""A trained model on another grid."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from tests.support.model_strategies import build, example_input
from tzwc.errors import SpecError
from tzwc.models import TerminatorSpec, terminator_spec

SPECS = {
    "2-D": terminator_spec("digits", factors=(12, 1)),
    "2-D convolution": terminator_spec("digits", form="convolution", sizes=(8, 6), factors=(12,)),
    "1-D": terminator_spec("smnist", sizes=(24,), factors=(12, 1), local_net={"hidden": 8}),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("kernels", ["evaluate", "interpolate"])
def test_the_same_grid_changes_nothing(spec: TerminatorSpec, kernels: str) -> None:
    model, x = build(spec), example_input(spec)
    same = model.at_resolution(spec.sizes, kernels=kernels)
    assert torch.equal(same(x), model(x))
    with torch.no_grad():
        same.head.weight.zero_()  # copies
    assert model.head.weight.any()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_there_and_back(spec: TerminatorSpec) -> None:
    model, x = build(spec), example_input(spec)
    finer = model.at_resolution([2 * size for size in spec.sizes], kernels="interpolate")
    assert finer.spec == TerminatorSpec.from_dict(finer.spec.to_dict())
    for kernel, sizes in zip(finer.global_kernels(), [finer.spec.sizes] * spec.blocks, strict=True):
        assert kernel.shape[2:] == sizes
    back = finer.at_resolution(spec.sizes, kernels="interpolate")
    torch.testing.assert_close(back.global_kernels(), model.global_kernels())
    assert back.spec.spacing == 1
    assert finer(F.interpolate(x, finer.spec.sizes)).shape == model(x).shape


def test_kernels_of_low_frequency_are_sampled_more_densely() -> None:
    """Every second point of a grid of ``2 n − 1`` points lies on the grid of ``n``."""
    low = dataclasses.replace(SPECS["1-D"].global_net, omega_0=0.01)
    spec = dataclasses.replace(SPECS["1-D"], sizes=(25,), global_net=low)
    model = build(spec)
    with torch.no_grad():
        for block in model.blocks:
            block.global_net.offset.zero_()
    finer = model.at_resolution((49,))
    for coarse, fine in zip(model.global_kernels(), finer.global_kernels(), strict=True):
        torch.testing.assert_close(fine[..., ::2], coarse, rtol=1e-5, atol=1e-7)


def test_sums_weigh_what_they_did() -> None:
    """A value that is the same everywhere, and a kernel that is, give the same on every grid."""
    model = build(SPECS["2-D"])
    finer = model.at_resolution((16, 16), kernels="interpolate")
    for block in (model.blocks[0], finer.blocks[0]):
        n = block.global_net.resampled[0]
        ones = torch.ones(1, 1, n, n, dtype=torch.float64)
        assert block._operate(ones, ones).unique().tolist() == [8.0]


def test_local_kernels_reach_as_far() -> None:
    spec = SPECS["2-D"]
    finer = build(spec).at_resolution((16, 16))
    assert [finer.spec.taps_of(branch) for branch in spec.local] == [2 * (b.kernel_size - 1) + 1 for b in spec.local]


@pytest.mark.parametrize(
    ("sizes", "kernels", "message"),
    [
        ((16, 24), "evaluate", r"sizes = \(16, 24\): expected"),
        ((16,), "evaluate", r"sizes = \(16,\): expected"),
        ((16, 16), "nearest", r"resample = 'nearest': expected one of evaluate, interpolate"),
    ],
)
def test_what_cannot_be_resampled(sizes: tuple[int, ...], kernels: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build(SPECS["2-D"]).at_resolution(sizes, kernels=kernels)
