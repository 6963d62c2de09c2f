"""Training through a compiled module: gradients, accumulation, second derivatives, data parallelism."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import tzwc
from tests.support.gradients import BATCHES, assert_gradients, compiled, eager_gradients, hyper_conv, square
from tests.support.programs import WithBuffers, example


def test_one_code_for_all_batch_sizes_has_gradients() -> None:
    model = hyper_conv()
    fast = tzwc.compile(model, backend="aot_eager", static_sizes=1)
    for x in BATCHES:
        square(fast(x)).backward()
    assert_gradients(model, eager_gradients(BATCHES))


def test_accumulated_gradients_are_the_sum_over_micro_batches() -> None:
    fast = compiled(hyper_conv())
    with fast.accumulate():
        for x in BATCHES:
            square(fast(x)).backward()
        assert fast.slow[0].weight.grad is None  # nothing of the slow network yet
        assert fast.leave.weight.grad is not None
        with torch.no_grad():
            fast(BATCHES[0])  # evaluation in between is not training
    assert_gradients(fast, eager_gradients(BATCHES))
    assert fast.remarks == []


def test_accumulation_again_after_a_step() -> None:
    fast, eager = compiled(hyper_conv()), hyper_conv()
    ours, theirs = torch.optim.Adam(fast.parameters(), 1e-2), torch.optim.Adam(eager.parameters(), 1e-2)
    for _ in range(3):
        with fast.accumulate():
            for x in BATCHES:
                square(fast(x)).backward()
        for x in BATCHES:
            square(eager(x)).backward()
        for model in (fast, eager):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(fast.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_accumulation_with_a_scaled_loss() -> None:
    fast = compiled(hyper_conv())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(fast.parameters(), 0.0)
    with fast.accumulate():
        for x in BATCHES:
            scaler.scale(square(fast(x))).backward()
    assert_gradients(fast, eager_gradients(BATCHES), factor=1024.0)
    scaler.unscale_(optimizer)
    assert_gradients(fast, eager_gradients(BATCHES))


@pytest.mark.parametrize("reentrant", [False, True])
def test_accumulation_with_checkpointing(reentrant: bool) -> None:
    fast = compiled(hyper_conv())
    with fast.accumulate():
        for x in BATCHES:
            square(checkpoint(fast, x.clone().requires_grad_(), use_reentrant=reentrant)).backward()
    assert_gradients(fast, eager_gradients(BATCHES))


def test_a_parameter_changed_inside_is_refused() -> None:
    fast = compiled(hyper_conv())

    def step_between() -> None:
        with fast.accumulate():
            square(fast(BATCHES[0])).backward()
            with torch.no_grad():
                fast.slow[0].weight.mul_(2)
            square(fast(BATCHES[1])).backward()

    def hidden_write_at_the_end() -> None:
        with fast.accumulate():
            square(fast(BATCHES[0])).backward()
            fast.slow[0].weight.data.mul_(2)

    with pytest.raises(tzwc.AccumulationError, match=r"'slow\.0\.weight' has changed"):
        step_between()
    with pytest.raises(tzwc.AccumulationError, match="has changed"):
        hidden_write_at_the_end()
    fast.zero_grad()
    with fast.accumulate():
        square(fast(BATCHES[0])).backward()
    assert fast.slow[0].weight.grad is not None


def test_an_exception_inside_discards() -> None:
    fast = compiled(hyper_conv())

    def interrupted() -> None:
        with fast.accumulate():
            square(fast(BATCHES[0])).backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert fast.slow[0].weight.grad is None
    fast.zero_grad()
    with fast.accumulate():
        for x in BATCHES:
            square(fast(x)).backward()
    assert_gradients(fast, eager_gradients(BATCHES))


def test_misuse_is_refused() -> None:
    fast = compiled(hyper_conv())
    with fast.accumulate():
        late = square(fast(BATCHES[0]))
        with pytest.raises(tzwc.AccumulationError, match="inside accumulate"), fast.accumulate():
            pass
    with pytest.raises(tzwc.AccumulationError, match="too late"):
        late.backward()


def test_double_backward_through_ahead_of_time_code() -> None:
    fast, eager = compiled(hyper_conv(), "aot_eager"), hyper_conv()
    x = example().requires_grad_()
    found, expected = [], []
    for model, results in ((fast, found), (eager, expected)):
        (first,) = torch.autograd.grad(square(model(x)), x, create_graph=True)
        results.extend([first.detach(), *torch.autograd.grad(first.square().sum(), [x, *model.parameters()])])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * max(1.0, b.abs().max().item()))


def test_ahead_of_time_code_gives_all_gradients_twice() -> None:
    fast = compiled(hyper_conv(), "aot_eager")
    y = square(fast(BATCHES[0]))
    y.backward(retain_graph=True)
    y.backward()
    assert_gradients(fast, eager_gradients([BATCHES[0]] * 2))


def test_second_derivative_of_what_draws_random_numbers_is_refused() -> None:
    fast = compiled(WithBuffers().double(), "aot_eager")
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(fast({"x": x})["hidden"].sum(), x)
    assert first.shape == x.shape
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(fast({"x": x})["hidden"].sum(), x, create_graph=True)


def test_transforms_through_a_compiled_module() -> None:
    fast, eager, x = compiled(hyper_conv(), "aot_eager"), hyper_conv(), example()
    parameters = dict(eager.named_parameters())

    def loss(module: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        return lambda p, sample: square(torch.func.functional_call(module, p, sample.unsqueeze(0)))

    per_sample = torch.func.vmap(torch.func.grad(loss(fast)), in_dims=(None, 0))(parameters, x)
    expected = torch.func.vmap(torch.func.grad(loss(eager)), in_dims=(None, 0))(parameters, x)
    for name, gradient in expected.items():
        torch.testing.assert_close(per_sample[name], gradient)
    called = torch.func.functional_call(fast, {k: 2 * v for k, v in parameters.items()}, (x,))
    torch.testing.assert_close(
        called, torch.func.functional_call(eager, {k: 2 * v for k, v in parameters.items()}, (x,))
    )
    torch.testing.assert_close(fast(x), eager(x))


def test_a_compiled_optimiser_step_renews_kept_values() -> None:
    fast = tzwc.compile(hyper_conv(), backend="eager", check="version")
    optimizer = torch.optim.Adam(fast.parameters(), 0.1)
    step = torch.compile(optimizer.step, backend="aot_eager")
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(fast(BATCHES[0]), fast.original(BATCHES[0]))
        square(fast(BATCHES[0])).backward()
        step()
        optimizer.zero_grad()
    with torch.no_grad():
        torch.testing.assert_close(fast(BATCHES[0]), fast.original(BATCHES[0]))
