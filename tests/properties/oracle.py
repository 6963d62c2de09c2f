"""How far a result may be from eager's, in one place: float64 is the oracle, and the bound follows from the arithmetic.

**The local bounds.** Every operator that a rewrite may do in another way gets the bound of its worst legal way, with
``u`` the unit roundoff of the compiled model's dtype (Higham, *Accuracy and Stability of Numerical Algorithms*):

- sums of ``n`` products (convolutions, matrix products, and their gradients): ``γ_n Σ|w||x|`` for each element, eq.
  (3.5); one FFT adds ``(2 · 13 · L + 4 + c) u ‖w‖₂ ‖x‖₂``, the bound of :mod:`tzwc.ops.conv.error_bounds`, relative to
  the peak: ``L`` stages are those of the largest transform over these operands. Norms are over all elements, which
  bounds those over one output's share;
- sums of ``n`` terms: ``γ_n Σ|x|``;
- normalisations and softmax are sums and elementwise functions inside: their operands are moved by ``γ_n max|x|``, the
  error of a mean, and their result by ``4 u |y|``;
- elementwise functions: ``4 u |y|``: a vectorised function is good to a few units in the last place, and a product
  of three factors may be associated in another way;
- what moves data, or rounds in no way: nothing.

**From local bounds to results.** A program magnifies roundings by its own condition: a standardisation divides by a
small deviation, a sine turns a large argument's rounding into another value. No fixed tolerance is right for every
program. So the program is run in float64 with every operator's result moved by its local bound, with random signs
(Monte Carlo arithmetic: D. S. Parker, 1997), forwards and backwards, and what moves is what may differ. The moves are
made ``2**-40`` large instead of ``u``, far above float64's own roundings, and the spread is scaled back, since to first
order it is linear in them.

The spread of random signs never exceeds the first-order worst case. A first estimate of a few samples convicts nobody:
a result outside of it is measured with eight times as many before it counts as wrong. Real roundings meet the bounds of
sums of many terms hardly ever, and the ``MARGIN`` of 4 is for results of few elements, where the largest of the samples
may be smaller than a real error by that much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tzwc.ops.conv.error_bounds import STAGE

__all__ = ["Oracle", "Results"]

Results = Mapping[str, Any]
"""Results by name: leaves of what a program returns, gradients, and state."""

MARGIN = 4.0
SAMPLES = 3
MORE_SAMPLES = 24
SCALE = 2.0**-40

aten = torch.ops.aten
_PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.convolution, aten.convolution_backward, aten.addbmm}
_SUMS = {aten.sum, aten.mean, aten.cumsum, aten.avg_pool2d, aten._adaptive_avg_pool2d, aten.index_add, aten.index_put}
_INSIDE = {
    *(aten.native_layer_norm, aten.native_group_norm, aten.native_batch_norm, aten._softmax, aten._log_softmax),
    *(aten.native_layer_norm_backward, aten.native_group_norm_backward, aten.native_batch_norm_backward),
    *(aten.var, aten.var_mean, aten.std, aten.logsumexp, aten._softmax_backward_data, aten.linalg_vector_norm),
    *(aten._fft_r2c, aten._fft_c2r, aten._fft_c2c),
}
_EXACT = {
    *(
        aten.clone,
        aten.cat,
        aten.stack,
        aten.copy_,
        aten._to_copy,
        aten.index,
        aten.flip,
        aten.roll,
        aten.neg,
        aten.abs,
    ),
    *(aten.relu, aten.relu_, aten.neg_, aten.where, aten.fill_, aten.zero_, aten.clamp, aten.max_pool2d_with_indices),
    *(aten.constant_pad_nd, aten.repeat, aten.threshold_backward, aten.sgn, aten.slice_backward, aten.select_backward),
    *(aten.amax, aten.full, aten.zeros, aten.ones, aten.arange, aten.linspace, aten.zeros_like, aten.ones_like),
    *(
        aten.bernoulli_,
        aten.randn_like,
        aten.rand_like,
        aten.empty,
        aten.empty_like,
        aten.new_zeros,
        aten.new_empty,
        aten.full_like,
    ),
    *(aten.scalar_tensor, aten.lift_fresh, aten.lift_fresh_copy, aten.native_dropout, aten.rand, aten.randn),
    *(aten.new_empty_strided, aten.empty_strided, aten.max_pool2d_with_indices_backward, aten.detach),
}


class _Moved(TorchDispatchMode):
    """Moves the result of every operator by its local bound, with random signs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = func.overloadpacket
        if kind in _EXACT or any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns):
            return func(*args, **kwargs)
        floats = [a for a in args if _inexact(a)]
        terms = math.prod(floats[0].shape) if floats and floats[0].dim() else 1
        bounds: list[Any] = []
        if kind in _PRODUCTS:
            bounds = self._product(func, args, kwargs, floats)
        elif kind in _SUMS:
            magnitudes = func(*(a.abs() if _inexact(a) else a for a in args), **kwargs)
            bounds = [terms * m for m in _listed(magnitudes)]
        elif kind in _INSIDE:
            moving = 2 if func._schema.name.endswith(("backward", "backward_data")) else 1  # the others are state
            args = (*(self._shifted(a, terms * _peak(a)) for a in args[:moving]), *args[moving:])
        result = func(*args, **kwargs)
        if func._schema.is_mutable:
            for tensor in _listed(result):
                tensor.copy_(self._shifted(tensor, _rounding(tensor)))
            return result
        results = _listed(result)
        moved = list(map(self._shifted, results, bounds or map(_rounding, results)))
        return tuple(moved) if isinstance(result, tuple) else list(moved) if isinstance(result, list) else moved[0]

    def _product(self, func: Any, args: Any, kwargs: Any, floats: list[Tensor]) -> list[Any]:
        magnitudes = func(*(a.abs() if _inexact(a) else a for a in args), **kwargs)
        terms = max(f.numel() for f in floats)  # no element sums more products
        peak = math.prod(sorted(float(f.norm()) for f in floats)[-2:])
        # A full linear convolution of these operands has at most as many points as both have elements.
        stages = math.log2(max(sum(f.numel() for f in floats), 2))
        fourier = (2 * STAGE * stages + 4 + terms) * peak
        return [None if m is None else (terms + 1) * m + fourier for m in _listed(magnitudes)]

    def _shifted(self, value: Any, bound: Any) -> Any:
        """``value`` with every element moved by ``SCALE · bound``, up or down."""
        if not _inexact(value):
            return value
        signs = torch.randint(0, 2, value.shape, generator=self._generator) * 2 - 1
        return value + SCALE * signs * bound


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _inexact(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _rounding(value: Any) -> Any:
    """A few units in the last place."""
    return 4 * value.abs() if _inexact(value) else None


def _peak(value: Any) -> float:
    return float(value.abs().max()) if isinstance(value, Tensor) and value.numel() else 0.0


class Oracle:
    """What a run must give, and how far from it another run may be.

    Args:
        run: gives the results in float64, the same ones at every call; it makes its own model and tensors.
        epsilon: of the dtype of the results that are compared with these.

    Attributes:
        exact: the results.
    """

    def __init__(self, run: Callable[[], Results], epsilon: float = torch.finfo(torch.float64).eps) -> None:
        self._run = run
        self._ratio = MARGIN * epsilon / 2 / SCALE
        self._taken = 0
        self._spread: dict[str, float] = {}
        self.exact = run()

    def bound(self, name: str, samples: int = SAMPLES) -> float:
        """The largest distance that any element of the result called ``name`` may have."""
        while self._taken < samples:
            self._taken += 1
            with _Moved(self._taken):
                moved = self._run()
            for key, value in self.exact.items():
                if isinstance(value, Tensor) and isinstance(moved.get(key), Tensor):
                    self._spread[key] = max(self._spread.get(key, 0.0), distance(moved[key], value))
        return self._ratio * self._spread.get(name, 0.0)

    def difference(self, found: Results) -> str:
        """What is wrong with ``found``, or ``""``."""
        if list(found) != list(self.exact):
            return f"there are {list(found)}, not {list(self.exact)}"
        for name in self.exact:
            problem = self.unlike(name, found[name])
            if problem:
                return f"{name}: {problem}"
        return ""

    def check(self, found: Results) -> None:
        """Fail with what is wrong with ``found``."""
        problem = self.difference(found)
        assert not problem, problem

    def unlike(self, name: str, found: Any) -> str:
        """What is wrong with ``found`` as the result called ``name``, or ``""``."""
        expected = self.exact[name]
        if not isinstance(expected, Tensor) or not isinstance(found, Tensor):
            same = type(found) is type(expected) and found == expected
            return "" if same else f"{found!r}, not {expected!r}"
        if found.shape != expected.shape:
            return f"{list(found.shape)}, not {list(expected.shape)}"
        if not expected.is_floating_point():
            return "" if torch.equal(found, expected) else f"{found.tolist()}, not {expected.tolist()}"
        away = distance(found, expected)
        if away == 0 or away <= self.bound(name) or away <= self.bound(name, MORE_SAMPLES):
            return ""
        return f"{away:.3g} away, and the bound is {self.bound(name):.3g}; {found.tolist()}, not {expected.tolist()}"


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference of elements; infinite where only one of the two is a number."""
    if a.shape != b.shape:
        return math.inf
    a, b = a.detach().double(), b.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    gaps = torch.where(same, 0.0, (a - b).abs()).nan_to_num(math.inf, math.inf)
    return _peak(gaps)
