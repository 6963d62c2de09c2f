"""Replicas as ``DataParallel`` makes them: right results in threads of their own, and the original as it was."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tzwc
from tests.support.compiled_testing import compiled
from tests.support.programs import HyperConv, example

REPLICAS = 3


def replicate(network: nn.Module) -> list[nn.Module]:
    """What ``torch.nn.parallel.replicate`` does, on the CPU: ``clone`` in place of a broadcast between devices."""
    modules = list(network.modules())
    index = {module: i for i, module in enumerate(modules)}
    copies: list[list[nn.Module]] = []
    for _ in range(REPLICAS):
        cloned = {tensor: tensor.clone() for tensor in [*network.parameters(), *network.buffers()]}
        made = [module._replicate_for_data_parallel() for module in modules]  # type: ignore[no-untyped-call]
        for module, replica in zip(modules, made, strict=True):
            replica._former_parameters = {}
            for name, child in module._modules.items():
                if child is None:
                    replica._modules[name] = None
                else:
                    setattr(replica, name, made[index[child]])
            for name, parameter in module._parameters.items():
                if parameter is None:
                    replica._parameters[name] = None
                else:
                    setattr(replica, name, cloned[parameter])
                    replica._former_parameters[name] = cloned[parameter]
            for name, buffer in module._buffers.items():
                if buffer is None:
                    replica._buffers[name] = None
                else:
                    setattr(replica, name, cloned[buffer])
        copies.append(made)
    return [made[0] for made in copies]


def apply(replicas: list[nn.Module], inputs: list[Tensor]) -> list[Tensor]:
    """What ``torch.nn.parallel.parallel_apply`` does: each in a thread of its own, all at once."""
    results: list[Tensor | BaseException] = [RuntimeError("not run")] * len(replicas)
    start, grad = threading.Barrier(len(replicas)), torch.is_grad_enabled()

    def run(i: int) -> None:
        start.wait()
        try:
            with torch.set_grad_enabled(grad):
                results[i] = replicas[i](inputs[i])
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(replicas))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Tensor)]


class _Branches(nn.Module):
    """Asks for values of its inputs: only its submodules can be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = HyperConv()
        self.register_module("none", None)
        self.register_buffer("missing", None)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y if y.sum() > 0 else -y


def _whole(model: nn.Module) -> nn.Module:
    return compiled(model)


def _inside(model: nn.Module) -> nn.Module:
    return nn.Sequential(compiled(model), nn.Tanh())


@pytest.mark.parametrize("make", [HyperConv, _Branches])
@pytest.mark.parametrize("wrap", [_whole, _inside])
@pytest.mark.parametrize("called_before", [False, True])
def test_replicas_give_what_replicas_of_the_original_give(
    make: Callable[[], nn.Module], wrap: Callable[[nn.Module], nn.Module], called_before: bool
) -> None:
    torch.manual_seed(0)
    model = make().double()
    eager, network = copy.deepcopy(model), wrap(model)
    reference = nn.Sequential(eager, nn.Tanh()) if isinstance(network, nn.Sequential) else eager
    inputs = [example(seed=i) for i in range(REPLICAS)]
    if called_before:
        network(inputs[0])
    names, state = [n for n, _ in network.named_parameters()], copy.deepcopy(network.state_dict())
    for _ in range(2):
        found, expected = apply(replicate(network), inputs), apply(replicate(reference), inputs)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
    torch.stack(found).square().sum().backward()
    torch.stack(expected).square().sum().backward()
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        # Threads are joined before the backward, which adds up the replicas' gradients in the same order for both.
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-12)
    assert [n for n, _ in network.named_parameters()] == names == [n for n, _ in reference.named_parameters()]
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
    assert not getattr(model, "_is_replica", False)
    torch.testing.assert_close(network(inputs[0]), reference(inputs[0]), rtol=1e-10, atol=1e-10)


def test_a_remark_says_so_once() -> None:
    fast = compiled(HyperConv().double())
    for _ in range(2):
        apply(replicate(fast), [example()] * REPLICAS)
    assert [r.reason for r in fast.remarks] == [
        "the module runs as it was: DataParallel replicates it for every call (DistributedDataParallel does not)"
    ]


def test_submodules_named_like_attributes_of_the_wrapper() -> None:
    model = nn.Sequential()
    model.add_module("original", nn.Linear(6, 3))
    model.add_module("options", nn.Linear(3, 3))
    model.add_module("_lock", nn.Linear(3, 2))
    x = torch.randn(2, 6)
    for result in apply(replicate(tzwc.compile(model, backend="eager")), [x] * REPLICAS):
        assert torch.equal(result, model(x))


def test_hooks_of_the_wrapper_and_of_the_original_run_in_order() -> None:
    model, seen = nn.Linear(6, 3), []
    fast = compiled(model)
    model.register_forward_pre_hook(lambda *_: seen.append("inner pre"))
    fast.register_forward_pre_hook(lambda *_: seen.append("outer pre"))
    model.register_forward_hook(lambda *_: seen.append("inner"))
    fast.register_forward_hook(lambda *_, **__: seen.append("outer"), with_kwargs=True)
    replicate(fast)[0](torch.randn(2, 6))
    assert seen == ["outer pre", "inner pre", "inner", "outer"]
    assert (len(model._forward_hooks), len(fast._forward_hooks)) == (1, 1)


def test_replicas_of_an_original_whose_submodules_are_compiled() -> None:
    """Only calls through the compiled module are diverted, and replicas call their own submodules."""
    model = _Branches().double()
    fast, x = compiled(model), example()
    fast(x)
    assert fast.level == "per submodule"
    for replica in replicate(model):
        with torch.no_grad():
            replica.inner.leave.bias.add_(1.0)
            assert not torch.equal(replica(x), model(x))
    assert fast.level == "per submodule"
