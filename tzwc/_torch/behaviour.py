"""What the private names are relied upon to do, as far as it can be tried in no time."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence

import sympy
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tzwc._torch import (
    autocast,
    autograd,
    dispatch,
    fake_tensors,
    foreach,
    functorch,
    logs,
    modules,
    operators,
    pytree,
    symbolic_shapes,
    tensors,
)

__all__ = ["CHECKS"]


class _Count(dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators it sees."""

    seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen += 1
        return func(*args, **(kwargs or {}))


def _modes_are_counted_and_disabled() -> None:
    assert dispatch.count_dispatch_modes() == 0
    assert dispatch.current_dispatch_mode() is None
    mode = _Count()  # type: ignore[no-untyped-call]
    with mode:
        assert dispatch.count_dispatch_modes() == 1
        assert dispatch.current_dispatch_mode() is mode
        torch.zeros(1)
        with dispatch.disable_current_modes():
            assert dispatch.count_dispatch_modes() == 0
            torch.zeros(1)
    assert mode.seen == 1


def _default_devices_are_function_modes() -> None:
    with torch.device("cpu"):
        assert [type(mode) for mode in dispatch.function_modes()[-1:]] == [dispatch.DeviceContext]


def _dispatch_keys_are_restored() -> None:
    with autocast.DisableAutocast():
        keys = dispatch.included_dispatch_keys(), dispatch.excluded_dispatch_keys()
    with torch.autocast("cpu"), dispatch.ForceDispatchKeyGuard(*keys):
        assert not autocast.any_autocast_enabled()


def _plain_subclasses_have_no_dispatch() -> None:
    class Plain(Tensor):
        __torch_dispatch__ = dispatch.disabled_torch_dispatch

    with dispatch.DisableTorchFunction(), dispatch.DisableTorchFunctionSubclass(), dispatch.enable_python_dispatcher():
        assert type(torch.zeros(1).as_subclass(Plain) + 1) is Tensor


def _autocast_is_seen_and_disabled() -> None:
    assert not autocast.any_autocast_enabled()
    a = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert autocast.any_autocast_enabled()
        with autocast.DisableAutocast():
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


def _operators_skip_autograd() -> None:
    x = torch.ones(1, requires_grad=True)
    assert autograd.any_requires_grad(1, [x])
    assert not autograd.any_requires_grad(1, [x.detach()])
    with autograd.AutoDispatchBelowAutograd():
        assert not (x * 2).requires_grad


def _forward_mode_is_seen() -> None:
    assert not autograd.forward_mode_active()
    with forward_ad.dual_level():
        assert autograd.forward_mode_active()


def _transforms_are_seen() -> None:
    assert functorch.current_transform() is None

    def inside(x: Tensor) -> Tensor:
        assert functorch.current_transform() is not None
        assert functorch.is_transformed(x)
        return x * 2

    assert torch.equal(torch.func.vmap(inside)(torch.ones(2)), torch.full((2,), 2.0))


def _kinds_of_tensors_are_told_apart() -> None:
    x = torch.ones(2, requires_grad=True)
    assert tensors.is_leaf_of(x)
    assert tensors.requires_grad_of(x)
    assert not tensors.is_leaf_of(x * 2)
    assert tensors.is_view(x[:1])
    assert not tensors.is_view(x)
    assert tensors.is_zero_tensor(torch._efficientzerotensor(2))
    assert not tensors.is_zero_tensor(x)
    assert tensors.is_functional_tensor(torch._to_functional_tensor(x.detach()))
    assert not tensors.is_functional_tensor(x)
    negative = tensors.negative_view(x.detach())
    assert negative.is_neg()
    assert negative.data_ptr() == x.data_ptr()
    assert issubclass(Tensor, tensors.TensorBase)
    assert not tensors.data_of(x).requires_grad


def _lists_are_computed_elementwise() -> None:
    values, signs = [torch.tensor([1.0])], foreach.sign([torch.tensor([-3.0])])
    foreach.add_(values, signs, alpha=2)
    assert values[0].item() == -1
    foreach.lerp_(values, [torch.tensor([1.0])], 0.5)
    assert values[0].item() == 0


def _operators_have_classes() -> None:
    assert isinstance(torch.ops.aten.add, operators.OpOverloadPacket)
    assert isinstance(torch.ops.aten.add.Tensor, operators.OpOverload)
    assert isinstance(torch.ops.higher_order.cond, operators.HigherOrderOperator)


def _containers_are_flattened_and_rebuilt() -> None:
    nested = {"a": [1, (2, None)], "b": 3}
    leaves, spec = pytree.tree_flatten(nested)
    assert leaves == pytree.tree_leaves(nested) == [1, 2, None, 3]
    assert spec == pytree.tree_structure(nested)
    assert isinstance(spec, pytree.TreeSpec)
    assert pytree.tree_unflatten(leaves, spec) == nested
    assert pytree.tree_map_only(int, lambda x: x + 1, nested) == {"a": [2, (3, None)], "b": 4}
    assert pytree.tree_map(lambda x: x, nested) == nested
    paths, _ = pytree.tree_flatten_with_path(nested)
    assert paths[-1] == ((pytree.MappingKey("b"),), 3)


def _fake_tensors_have_sizes_alone() -> None:
    mode = fake_tensors.FakeTensorMode(shape_env=ShapeEnv())
    fake = mode.from_tensor(torch.ones(3), static_shapes=True)
    assert isinstance(fake, fake_tensors.FakeTensor)
    assert fake_tensors.detect_fake_mode([fake]) is mode
    with fake_tensors.tracing(fake_tensors.TracingContext(mode)):
        assert fake_tensors.detect_fake_mode() is mode
        context = fake_tensors.TracingContext.try_get()
        assert context is not None
        assert context.fake_mode is mode
    plain = fake_tensors.FakeTensorMode()
    for ask, error in (
        (lambda x: x.item(), fake_tensors.DataDependentOutputException),
        (torch.nonzero, fake_tensors.DynamicOutputShapeException),
    ):
        try:
            ask(plain.from_tensor(torch.ones(1)))
        except error:
            continue
        raise AssertionError(f"{error.__name__} is not raised")
    with fake_tensors.FakeCopyMode(plain):
        assert isinstance(copy.deepcopy(torch.ones(1)), fake_tensors.FakeTensor)


def _expressions_are_printed_and_evaluated() -> None:
    x = sympy.Symbol("x", integer=True)
    assert eval(symbolic_shapes.PythonPrinter().doprint(2 * x + 1), {"x": 3}) == 7
    assert symbolic_shapes.sympy_interp(symbolic_shapes.PythonReferenceAnalysis, {x: 3}, 2 * x + 1) == 7


def _logs_print_once_set_up() -> None:
    logger = logging.getLogger("tzwc.self_test")
    assert not logs.has_torch_handler(logger)
    logs.print_as_torch_does(logger)
    assert logs.has_torch_handler(logger)
    logger.handlers.clear()


def _hooks_and_caches_are_global() -> None:
    before = [len(hooks) for hooks in modules.GLOBAL_HOOKS]
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert [len(hooks) for hooks in modules.GLOBAL_HOOKS] == [before[0] + 1, *before[1:]]
    handle.remove()
    assert not modules.parametrizations_cached()
    with torch.nn.utils.parametrize.cached():
        assert modules.parametrizations_cached()
        cache = modules.parametrization_cache()
        modules.set_parametrization_cache(cache)
        assert modules.parametrization_cache() is cache


CHECKS: Mapping[str, Sequence[Callable[[], None]]] = {
    "autocast": (_autocast_is_seen_and_disabled,),
    "autograd": (_operators_skip_autograd, _forward_mode_is_seen),
    "dispatch": (
        _modes_are_counted_and_disabled,
        _default_devices_are_function_modes,
        _dispatch_keys_are_restored,
        _plain_subclasses_have_no_dispatch,
    ),
    "fake_tensors": (_fake_tensors_have_sizes_alone,),
    "foreach": (_lists_are_computed_elementwise,),
    "functorch": (_transforms_are_seen,),
    "logs": (_logs_print_once_set_up,),
    "modules": (_hooks_and_caches_are_global,),
    "operators": (_operators_have_classes,),
    "pytree": (_containers_are_flattened_and_rebuilt,),
    "symbolic_shapes": (_expressions_are_printed_and_evaluated,),
    "tensors": (_kinds_of_tensors_are_told_apart,),
}
"""The checks of each module of names, which raise when something behaves differently."""
