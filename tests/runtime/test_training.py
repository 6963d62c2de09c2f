"""Training through a compiled module: gradients, accumulation, second derivatives, data parallelism."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import tzwc
from tests.support.processes import spawn
from tests.support.programs import HyperConv, WithBuffers, example
from tzwc.runtime.compiled_module import CompiledModule

Loss = Callable[[Tensor], Tensor]


def hyper_conv() -> HyperConv:
    torch.manual_seed(0)
    return HyperConv().double()


def compiled(model: nn.Module, backend: object = "eager") -> CompiledModule:
    return tzwc.compile(model, backend=backend)


def square(y: Tensor) -> Tensor:
    return y.square().sum()


def eager_gradients(batches: list[Tensor], loss: Loss = square) -> list[Tensor]:
    model = hyper_conv()
    for x in batches:
        loss(model(x)).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def assert_gradients(model: nn.Module, expected: list[Tensor], factor: float = 1.0) -> None:
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, factor * b, rtol=0, atol=1e-12 * factor * max(1.0, b.abs().max().item()))


BATCHES = [example(batch, seed=batch) for batch in (5, 3, 5, 2)]


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


def _worker(rank: int, rendezvous: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    fast = compiled(hyper_conv())
    parallel = DistributedDataParallel(fast)
    own = BATCHES[2 * rank : 2 * rank + 2]
    square(parallel(own[0])).backward()  # every step synchronised
    plain = [p.grad.clone() for p in fast.parameters() if p.grad is not None]
    parallel.zero_grad()
    with parallel.no_sync(), fast.accumulate():
        square(parallel(own[0])).backward()
    square(parallel(own[1])).backward()
    accumulated = [p.grad.clone() for p in fast.parameters() if p.grad is not None]
    refused = ""
    try:
        with fast.accumulate():
            parallel(own[0])
    except tzwc.AccumulationError as error:
        refused = str(error)
    torch.save((plain, accumulated, refused), f"{results}{rank}")
    del parallel  # before the group: its destructor must not run under Python's lock
    gc.collect()
    dist.destroy_process_group()


def test_two_processes(tmp_path: Path) -> None:
    assert spawn(_worker, str(tmp_path / "rendezvous"), str(tmp_path / "result")) == [0, 0]
    for rank in range(2):
        plain, accumulated, refused = torch.load(tmp_path / f"result{rank}", weights_only=True)
        for a, b in zip(plain, eager_gradients([BATCHES[0], BATCHES[2]]), strict=True):
            torch.testing.assert_close(a, b / 2, rtol=1e-12, atol=1e-12)
        for a, b in zip(accumulated, eager_gradients(BATCHES), strict=True):
            torch.testing.assert_close(a, b / 2, rtol=1e-12, atol=1e-12)
        assert "no_sync()" in refused


def _fsdp_worker(rank: int, rendezvous: str, results: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fast = compiled(hyper_conv())
    optimizer_steps = []
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(fast, mesh=mesh)
    optimizer = torch.optim.SGD(fast.parameters(), 0.1)
    for _ in range(2):
        with torch.no_grad():
            optimizer_steps.append(fast(BATCHES[0]).clone())
        square(fast(BATCHES[0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        optimizer_steps.append(fast(BATCHES[0]).clone())
    torch.save((optimizer_steps, [str(r) for r in fast.remarks]), f"{results}{rank}")
    del fast, optimizer, mesh  # as above
    gc.collect()
    dist.destroy_process_group()


def test_sharded_parameters_give_right_results_and_a_remark(tmp_path: Path) -> None:
    assert spawn(_fsdp_worker, str(tmp_path / "rendezvous"), str(tmp_path / "result")) == [0, 0]
    model = hyper_conv()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected = []
    for _ in range(2):
        expected.append(model(BATCHES[0]).detach())
        square(model(BATCHES[0])).backward()
        optimizer.step()
        optimizer.zero_grad()
    expected.append(model(BATCHES[0]).detach())
    for rank in range(2):
        found, remarks = torch.load(tmp_path / f"result{rank}", weights_only=True)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        assert any("manages parameters on its own" in remark for remark in remarks)


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
