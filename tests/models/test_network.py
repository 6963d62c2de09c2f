"""Properties of the network for any declaration, 1-D and 2-D alike, and its capture."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

from tests.support.model_strategies import build, example_input, specs
from tzwc.errors import InvalidArgumentError
from tzwc.models import Terminator, TerminatorSpec, slow_neural_loss, terminator_spec
from tzwc.models.layers import GroupedStandardisation, batch_standardise, instance_standardise
from tzwc.models.parts import BRANCHES
from tzwc.models.slow_networks import SineNetwork, SlowNetwork, coordinate_grid, s_renormalise

SMALL = {
    "2-D": terminator_spec("digits"),
    "2-D figure": terminator_spec("digits", figure=True, factors=(12, 2)),
    "2-D convolution": terminator_spec("digits", form="convolution", sizes=(6, 5), factors=(12, 1)),
    "1-D": terminator_spec("smnist", sizes=(24,), factors=(12, 2, 1), local_net={"hidden": 8}),
    "1-D causal": terminator_spec("smnist", sizes=(24,), factors=(12,), global_net={"layers": 1}, padding="causal"),
}
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(specs())
def test_any_declaration_computes(spec: TerminatorSpec) -> None:
    model = build(spec)
    x = example_input(spec)
    logits = model(x)
    assert logits.shape == (3, spec.classes)
    assert torch.isfinite(logits).all()
    assert [tuple(k.shape) for k in model.global_kernels()] == [(1, c, *spec.sizes) for c in spec.channels[:-1]]
    for variant in ("tile", "channel_sum"):
        again, loss = model(x, slow_loss=variant)
        assert torch.equal(again, logits)
        assert torch.equal(loss, slow_neural_loss(model.global_kernels(), spec.factors, variant))


@quick
@given(specs())
def test_permuting_the_batch_permutes_the_logits(spec: TerminatorSpec) -> None:
    model, x = build(spec), example_input(spec, batch=4)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[order]), model(x)[order], rtol=1e-6, atol=1e-8)


@quick
@given(specs())
def test_the_state_holds_parameters_only(spec: TerminatorSpec) -> None:
    model = build(spec)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    other = build(spec, seed=7)
    other.load_state_dict(model.state_dict())
    x = example_input(spec)
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name: str) -> None:
    """Exactly those that a standardisation cancels have none: rounding noise, zero in exact arithmetic."""
    model = build(SMALL[name])
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the zeros of the start
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    logits, loss = model(example_input(SMALL[name]), slow_loss="tile")
    (logits.square().sum() + loss).backward()
    cancelled = ("mix.bias", "mixer.bias", "bottleneck.bias", "rgu_x.output.bias", "rgu_w.output.bias")
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        if not path.endswith(cancelled) and not (".local." in path and path.endswith("offset")):
            assert parameter.grad.abs().max() > 0, path


def test_one_definition_serves_both_dimensions() -> None:
    """The same modules and parameters in 1-D and 2-D; only the convolutions and the grid differ."""
    fields = {"local_net": {"hidden": 4}, "factors": (12, 1), "groups": 6}
    plane = Terminator(terminator_spec("digits", form="convolution", sizes=(6, 5), **fields))
    line = Terminator(terminator_spec("smnist", sizes=(30,), **fields))
    assert list(plane.state_dict()) == list(line.state_dict())
    for a, b in zip(plane.modules(), line.modules(), strict=True):
        assert type(a) is type(b) or (type(a).__name__, type(b).__name__) in {
            ("Conv2d", "Conv1d"),
            ("Dropout2d", "Dropout1d"),
            ("AdaptiveAvgPool2d", "AdaptiveAvgPool1d"),
        }


@quick
@given(specs())
def test_blocks_start_from_standardised_channels(spec: TerminatorSpec) -> None:
    """Before the gelu every channel of a bottleneck has zero mean over batch and grid."""
    model = build(spec)
    outputs: list[Tensor] = []
    for block in model.blocks:
        assert isinstance(block.standardise, GroupedStandardisation)
        block.standardise.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    model(example_input(spec))
    for output in outputs:
        assert output.transpose(0, 1).flatten(1).mean(1).abs().max() < 1e-9


@pytest.mark.parametrize("dims", [1, 2])
def test_grouped_standardisation_is_its_definition(dims: int) -> None:
    x = torch.randn(3, 24, *(5, 4)[:dims], dtype=torch.float64)
    groups = x.chunk(12, dim=1)
    expected = [instance_standardise(g) if i % 2 else batch_standardise(g) for i, g in enumerate(groups)]
    layer = GroupedStandardisation("h w" if dims == 2 else "l", 12)
    torch.testing.assert_close(layer(x), torch.cat(expected, 1))


def test_s_renormalisation_is_its_definition() -> None:
    h = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    norm = h.detach().square().sum((2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(s_renormalise(h), h + 0.10000000149011612 * h / norm)
    # Moving along h changes neither term: the first is not differentiated, the second is normalised.
    (gradient,) = torch.autograd.grad((s_renormalise(h) * torch.randn_like(h)).sum(), h)
    assert ((gradient * h).sum((2, 3)).abs() < 1e-12).all()
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(s_renormalise(zero).sum(), zero)[0]).all()


def test_coordinates_are_those_of_float32() -> None:
    expected = torch.linspace(-1, 1, 7, dtype=torch.float32)
    model = build(terminator_spec("smnist", sizes=(7,), factors=(12,), local=[], concat=["out"]))
    net = model.blocks[0].global_net
    assert isinstance(net, SlowNetwork)
    assert torch.equal(net.coordinates[0, 0], expected.double())
    grid = coordinate_grid((3, 5))
    assert grid.shape == (1, 2, 3, 5)
    assert torch.equal(grid[0, 0, :, 0], torch.tensor([-1.0, 0.0, 1.0]))


def test_output_weights_are_scaled_once() -> None:
    torch.manual_seed(0)
    net = SineNetwork((20, 20), 64, 64, 1, 2000.0)
    bound = (3 / 64) ** 0.5 / 20
    assert 0.9 * bound < net.output.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 8, 8), r"x has shape \(2, 8, 8\): expected \(batch, 1, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"expected \(batch, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 9), r"expected \(batch, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), r"x has dtype torch.int64: expected torch.float32"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.float64), r"x has dtype torch.float64: expected torch.float32"),
    ],
)
def test_bad_input_is_refused(x: Tensor, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Terminator(SMALL["2-D"])(x)


def test_unknown_slow_loss_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="did you mean 'tile'"):
        build(SMALL["2-D figure"])(example_input(SMALL["2-D figure"]), slow_loss="tiles")


@pytest.mark.parametrize(("name", "training"), [("2-D figure", True), ("1-D causal", True), ("1-D causal", False)])
def test_export_with_symbolic_batch(name: str, training: bool) -> None:
    model = build(SMALL[name]).train(training)
    x, other = example_input(SMALL[name], batch=3), example_input(SMALL[name], batch=5)
    program = torch.export.export(model, (x,), strict=False, dynamic_shapes={"x": {0: torch.export.Dim.AUTO}})
    exported = program.module()
    for batch in (x, other):
        torch.manual_seed(0)
        expected = model(batch)
        torch.manual_seed(0)
        assert torch.equal(exported(batch), expected)


@pytest.mark.parametrize("name", ["2-D", "1-D causal"])
def test_fullgraph_capture(name: str) -> None:
    torch.compiler.reset()
    # One block and one local branch: Dynamo takes seconds for each further one, and they are alike.
    spec = dataclasses.replace(
        SMALL[name], factors=(12,), skips=None, local=SMALL[name].local[:1], concat=(*list(BRANCHES)[1:], "l1")
    )
    model, x = build(spec), example_input(spec)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), model(x))


def test_deepcopy_is_independent() -> None:
    model = build(SMALL["2-D figure"])
    twin = copy.deepcopy(model)
    nn.init.zeros_(twin.head.weight)
    assert not torch.equal(model.head.weight, twin.head.weight)
