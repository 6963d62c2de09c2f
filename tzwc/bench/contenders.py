"""Ways to run a model whose parameters change now and then: what ``tzwc bench cache`` compares."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.const_fold import split_const_subgraphs
from torch.fx.experimental.proxy_tensor import make_fx

from tzwc import api
from tzwc._torch.inductor import config as inductor_config
from tzwc.errors import InvalidArgumentError

__all__ = ["CONTENDERS", "Call", "build", "choose", "settings_of"]

Call = Callable[[Tensor], Tensor]

CONTENDERS = {
    "eager": "the module as it is",
    "tzwc": "tzwc.compile",
    "compile": "torch.compile",
    "freezing": "torch.compile with torch._inductor.config.freezing",
    "const_fold": "torch.fx.experimental.const_fold on a graph whose parameters are attributes",
}
"""What each contender is, by name."""

_ONLY_INDUCTOR = ("freezing",)


def choose(names: Sequence[str] | None, backend: str) -> tuple[str, ...]:
    """The contenders called ``names``, or by default all that there are with ``backend``.

    Raises:
        InvalidArgumentError: an unknown name, or a contender that does not exist with this backend.
    """
    available = [name for name in CONTENDERS if backend == "inductor" or name not in _ONLY_INDUCTOR]
    if names is None:
        return tuple(available)
    for name in names:
        if name not in CONTENDERS:
            raise InvalidArgumentError(f"contender {name!r} is unknown: choose from {', '.join(CONTENDERS)}")
        if name not in available:
            raise InvalidArgumentError(f"contender {name!r} is a setting of Inductor: there is none with {backend!r}")
    if not names:
        raise InvalidArgumentError(f"no contenders: choose from {', '.join(CONTENDERS)}")
    return tuple(dict.fromkeys(names))


def build(name: str, model: nn.Module, x: Tensor, backend: str) -> Call:
    """The contender called ``name``, running ``model`` with its live parameters, without gradients.

    Args:
        name: a key of :data:`CONTENDERS`.
        model: in evaluation mode; parameters of the contender are these very tensors.
        x: an input of the size that will be measured.
        backend: of ``torch.compile`` and of tzwc; ``const_fold`` is compiled after folding, too.
    """
    module: Callable[..., Any]
    if name == "eager":
        module = model
    elif name == "tzwc":
        module = api.compile(model, backend=backend)
    elif name == "const_fold":
        folded = _fold(model, x)
        module = folded if backend == "eager" else _compiled(folded, backend)
    else:
        module = _compiled(model, backend)

    def call(x: Tensor) -> Tensor:
        with torch.no_grad():
            result: Tensor = module(x)
            return result

    return call


def _compiled(module: nn.Module, backend: str) -> Callable[..., Any]:
    # Contenders share code objects: without isolation, one would run the graph that was compiled for another.
    options: dict[str, Any] = {"backend": backend, "isolate_recompiles": True}
    compiled: Callable[..., Any] = torch.compile(module, **options)
    return compiled


@contextmanager
def settings_of(name: str) -> Iterator[None]:
    """What must be set while the contender compiles: around its first call, and where it might compile again."""
    if name == "freezing":
        with inductor_config.patch(freezing=True):
            yield
    else:
        yield


def _fold(model: nn.Module, x: Tensor) -> nn.Module:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about attributes that the folding itself adds a moment later
        folded = split_const_subgraphs(make_fx(model)(x))
        folded.run_folding()
    return folded
