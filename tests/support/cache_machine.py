"""A state machine that changes a live model in random order, and calls it in random modes in between."""

from __future__ import annotations

import copy
from collections.abc import Callable

import hypothesis.strategies as st
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import tzwc
import tzwc.partition.static_cache
import tzwc.runtime.module_guard
import tzwc.runtime.specialisation
from tests.support.programs import HyperConv, example
from tzwc.models import Kar3

# The slow network's second layer: square, so that a transposed view has the same shape.
HIDDEN = 6


SLOW = st.sampled_from(["slow.0.weight", "slow.0.bias", "slow.2.weight", "slow.2.bias"])


ANY = st.sampled_from([*("slow.0.weight", "slow.2.weight", "slow.2.bias"), "enter.weight", "leave.bias"])


FACTOR = st.sampled_from([-2.0, 0.5, 1.5])


WHERE = st.sampled_from(["attribute", "dictionary", "list"])


class _Scaled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 1.5 * weight


class _Remembers(HyperConv):
    """Leaves its result in an attribute, a dictionary or a list when it is asked to: each another kind of call."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden=hidden)
        self.last = torch.zeros(())
        self.results = {"last": torch.zeros(())}
        self.listed = [torch.zeros(())]

    def forward(self, x: Tensor, remember: str = "") -> Tensor:
        y = super().forward(x)
        if remember == "attribute":
            self.last = y.detach()
        elif remember == "dictionary":
            self.results["last"] = y.detach()
        elif remember == "list":
            self.listed[0] = y.detach()
        return y

    def remembered(self, where: str) -> Tensor:
        return {"attribute": self.last, "dictionary": self.results["last"], "list": self.listed[0]}[where]


class Machine(RuleBasedStateMachine):
    """One compiled model that is changed in every known way."""

    check = "bytes"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = _Remembers(HIDDEN).double().eval()
        # The other passes have tests of their own; without them a new capture takes a fraction of the time.
        self.fast = tzwc.compile(self.model, backend="eager", passes=["hoist_static"], verify=False, check=self.check)
        self.x = example()
        self.average = copy.deepcopy(self.model.state_dict())

    def parameter(self, name: str) -> nn.Parameter:
        return self.model.get_parameter(name)

    def owner(self, name: str) -> tuple[nn.Module, str]:
        path, _, key = name.rpartition(".")
        return self.model.get_submodule(path), key

    @property
    def parametrized(self) -> bool:
        return parametrize.is_parametrized(self.model.slow[0])

    # --- calls ---

    @invariant()
    def evaluation_is_right(self) -> None:
        with torch.no_grad():
            self.compare()

    def compare(self) -> None:
        self.compare_results(self.fast(self.x), self.model(self.x))

    def compare_results(self, found: Tensor, expected: Tensor) -> None:
        scale = max([1.0, *expected.detach().abs().flatten().tolist()])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * scale)

    @rule(batch=st.sampled_from([2, 5]))
    def another_batch(self, batch: int) -> None:
        self.x = example(batch, seed=batch)

    @rule()
    def call_in_inference_mode(self) -> None:
        with torch.inference_mode():
            self.compare()

    @rule()
    def call_with_gradients(self) -> None:
        self.compare()

    @rule()
    def accumulate(self) -> None:
        self.model.zero_grad()
        with self.fast.accumulate():
            self.fast(self.x).square().sum().backward()
        found = [p.grad for p in self.model.parameters()]
        self.model.zero_grad()
        self.model(self.x).square().sum().backward()
        for a, p in zip(found, self.model.parameters(), strict=True):
            assert (a is None) == (p.grad is None)
            if a is not None and p.grad is not None:
                torch.testing.assert_close(a, p.grad, rtol=1e-9, atol=1e-9 * max(1.0, p.grad.abs().max().item()))

    @rule(where=WHERE)
    def call_with_a_side_effect(self, where: str) -> None:
        with torch.no_grad():
            found, remembered = self.fast(self.x, remember=where), self.model.remembered(where)
            expected = self.model(self.x)
        self.compare_results(found, expected)
        self.compare_results(remembered, expected)

    @rule(name=SLOW, factor=FACTOR, where=WHERE)
    def replace_and_call_with_a_side_effect(self, name: str, factor: float, where: str) -> None:
        """No call of another kind comes in between: the graphs of those have not seen the new parameter."""
        self.replace_parameter(name, factor)
        self.call_with_a_side_effect(where)

    @rule(mode=st.booleans())
    def train_or_eval(self, mode: bool) -> None:
        self.fast.train(mode)

    # --- changes that PyTorch counts ---

    @precondition(lambda self: not self.parametrized)
    @rule(name=ANY, factor=FACTOR)
    def write_in_place(self, name: str, factor: float) -> None:
        with torch.no_grad():
            self.parameter(name).mul_(factor)

    @rule(factor=FACTOR)
    def write_through_a_view(self, factor: float) -> None:
        with torch.no_grad():
            self.model.slow[2].weight[1:].mul_(factor)

    @rule(factor=FACTOR)
    def write_a_buffer(self, factor: float) -> None:
        self.model.grid.mul_(factor).clamp_(-2, 2)

    @rule(
        make=st.sampled_from(
            [
                lambda p: torch.optim.SGD(p, 0.1),
                lambda p: torch.optim.Adam(p, 0.1, foreach=True),
                lambda p: Kar3(p, 0.1),
            ]
        )
    )
    def step(self, make: Callable[[object], torch.optim.Optimizer]) -> None:
        self.step_with(make)

    def step_with(self, make: Callable[[object], torch.optim.Optimizer]) -> None:
        self.model.zero_grad()
        with torch.enable_grad():
            self.model(self.x).square().mean().backward()
        make([p for p in self.model.parameters() if p.requires_grad]).step()

    @rule(kind=st.sampled_from([torch.optim.SGD, torch.optim.Adam]))
    def fused_step(self, kind: Callable[..., torch.optim.Optimizer]) -> None:
        self.step_with(lambda p: kind(p, 0.1, fused=True))

    @precondition(lambda self: not self.parametrized)
    @rule(assign=st.booleans(), factor=FACTOR)
    def load(self, assign: bool, factor: float) -> None:
        self.fast.load_state_dict({k: factor * v for k, v in self.average.items()}, assign=assign)

    @precondition(lambda self: not self.parametrized)
    @rule()
    def average_weights(self) -> None:
        for name, value in self.model.state_dict().items():
            self.average[name] = 0.5 * self.average[name] + 0.5 * value.clone()

    # --- changes of pointer, identity or layout ---

    @rule(name=ANY, factor=FACTOR)
    def replace_parameter(self, name: str, factor: float) -> None:
        if not self.parametrized:
            module, key = self.owner(name)
            old = self.parameter(name)
            setattr(module, key, nn.Parameter(old.detach() * factor, requires_grad=old.requires_grad))

    @rule(name=SLOW, factor=FACTOR)
    def set_data(self, name: str, factor: float) -> None:
        if not self.parametrized:
            p = self.parameter(name)
            p.data = p.data * factor

    @rule()
    def transpose_data(self) -> None:
        p = self.model.slow[2].weight
        p.data = p.data.t()

    @rule(name=SLOW, factor=FACTOR)
    def rename_storage(self, name: str, factor: float) -> None:
        """A new parameter on the old memory, written to until its version is that of the old one."""
        if self.parametrized:
            return
        module, key = self.owner(name)
        old = self.parameter(name)
        new = nn.Parameter(old.data)
        setattr(module, key, new)
        with torch.no_grad():
            while new._version < min(old._version, 50):
                new.mul_(factor if new._version == 0 else 1.0)

    @rule(factor=FACTOR)
    def vector(self, factor: float) -> None:
        parameters = list(self.model.parameters())
        for p in parameters:
            p.data = p.data.contiguous()  # as the flattening wants it
        vector = nn.utils.parameters_to_vector(parameters).detach()
        nn.utils.vector_to_parameters(factor * vector, parameters)

    @rule()
    def replace_module(self) -> None:
        if not self.parametrized:
            self.model.slow[0] = nn.Linear(1, HIDDEN).double()

    @rule()
    def parametrize_or_back(self) -> None:
        if self.parametrized:
            parametrize.remove_parametrizations(self.model.slow[0], "weight")
        else:
            parametrize.register_parametrization(self.model.slow[0], "weight", _Scaled())

    @rule()
    def prune_slow(self) -> None:
        self.model.slow[2].weight.data = self.model.slow[2].weight.data.contiguous()  # as pruning wants it
        prune.l1_unstructured(self.model.slow[2], "weight", amount=3)
        prune.remove(self.model.slow[2], "weight")

    @rule(name=SLOW)
    def freeze_or_thaw(self, name: str) -> None:
        if not self.parametrized:
            p = self.parameter(name)
            p.requires_grad_(not p.requires_grad)

    @rule(scale=st.sampled_from([1.0, 2.0, 3.0]))
    def set_attribute(self, scale: float) -> None:
        self.model.scale = scale

    # --- changes that nothing counts: only their bytes tell ---

    @precondition(lambda self: self.check == "bytes" and not self.parametrized)
    @rule(name=SLOW, factor=FACTOR)
    def write_data(self, name: str, factor: float) -> None:
        self.parameter(name).data.mul_(factor)

    @precondition(lambda self: self.check == "bytes" and not self.parametrized)
    @rule(name=SLOW, factor=FACTOR)
    def write_numpy(self, name: str, factor: float) -> None:
        self.parameter(name).detach().numpy()[...] *= factor


class VersionMachine(Machine):
    check = "version"


# Finding one stale result is enough; there is no need to make it small.
_SEARCH = [Phase.generate]


def run(machine: type[Machine], count: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=count,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            phases=_SEARCH,
            suppress_health_check=list(HealthCheck),
        ),
    )
