"""``tzwc.lower``: the code that a GPU would run, made and checked without one."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tzwc._torch import pytree
from tzwc.cross_compile.job import CapturedModel, checked
from tzwc.cross_compile.process import Process, require_triton
from tzwc.cross_compile.program import Program
from tzwc.errors import InvalidArgumentError
from tzwc.lowering.gpu.target import Target
from tzwc.rewrite.pass_manager import Pass
from tzwc.runtime.compiled_module import CompiledModule
from tzwc.util.argument_checks import shown

__all__ = ["Lowered", "interpret", "lower"]


@dataclass(frozen=True)
class Lowered(Program):
    """A :class:`~tzwc.cross_compile.program.Program` that can also be run here, on the CPU; made by :func:`lower`."""

    _captured: CapturedModel = field(kw_only=True, repr=False)
    _job: dict[str, Any] = field(kw_only=True, repr=False)

    def run(
        self, *inputs: Any, cotangents: Sequence[Tensor] = (), seed: int = 0, process: Process | None = None
    ) -> tuple[Any, dict[str, Tensor]]:
        """Run the generated program on the CPU: kernels in Triton's interpreter, library calls by PyTorch.

        Slow, and meant for small models: it shows that the generated code computes what the model does.

        Args:
            inputs: like those that the program was lowered for.
            cotangents: in training, gradients of the results that need them, in order; ones by default.
            seed: of PyTorch's random numbers.
            process: one made with ``Process("run")``, for many calls; by default one is started for this call.

        Returns:
            The result of the module, with parameters and buffers as they are now, and in training the gradients by
            parameter or input name.

        Raises:
            InvalidArgumentError: the inputs differ in number, shape, strides or dtype from those lowered for.
            LoweringError: the generated code failed.
        """
        return _interpreted(self._captured, self.target, self._job, inputs, cotangents, seed, process)


def lower(
    model: nn.Module,
    *inputs: Any,
    target: str = "cuda:90",
    train: bool | None = None,
    passes: Sequence[Pass | str] | None = None,
    plain: bool = False,
    binaries: bool = True,
    process: Process | None = None,
    **options: Any,
) -> Lowered:
    """Lower ``model(*inputs)`` for a GPU that need not be there.

    The model is captured here, on the CPU. A process of its own then believes in the GPU: there the passes choose as
    they would on it (by cost models, since nothing can be measured), Inductor writes Triton kernels for what is not
    kept between calls, and Triton compiles these.

    Args:
        model: any module that can be captured as one graph, on the CPU.
        inputs: example arguments, on the CPU; code is made for these very sizes.
        target: one of :data:`tzwc.cross_compile.TARGETS`, such as ``cuda:80``, ``cuda:90`` or ``hip:gfx942``.
        train: generate forward and backward; by default, whether gradients are enabled and a parameter or input needs
            some. The module's training flags are left as they are.
        passes: as for :func:`tzwc.compile`; a pass of one's own has to be given as ``module:NAME``.
        plain: lower what plain ``torch.compile`` lowers: no passes, nothing kept, Inductor's own settings.
        binaries: compile the kernels (half a second each).
        process: one made with ``Process("lower")``, for many calls; by default one is started for this call.
        **options: ``cache_bytes``, ``convolution`` and ``exact`` of :class:`tzwc.options.CompileOptions`.

    Raises:
        InvalidArgumentError: an argument cannot be used.
        LoweringError: Triton is missing, the module cannot be captured as one graph, or lowering failed.
    """
    chosen, captured, job = _prepared(model, inputs, target, train, passes, plain, options)
    with tempfile.TemporaryDirectory(prefix="tzwc-lower-") as name, _process("lower", process) as worker:
        folder = Path(name)
        captured.write_job(folder, chosen, **job, binaries=binaries)
        answer = worker.ask(folder)
        made = Program.from_answer(captured.model, chosen, answer, folder)
    return Lowered(**vars(made), _captured=captured, _job=job)


def interpret(
    model: nn.Module,
    *inputs: Any,
    target: str = "cuda:90",
    train: bool | None = None,
    passes: Sequence[Pass | str] | None = None,
    plain: bool = False,
    cotangents: Sequence[Tensor] = (),
    seed: int = 0,
    process: Process | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Tensor]]:
    """Lower a model for a GPU and run the result here: :func:`lower` without binaries, then :meth:`Lowered.run`.

    Arguments, result and errors are those of the two.
    """
    chosen, captured, job = _prepared(model, inputs, target, train, passes, plain, options)
    return _interpreted(captured, chosen, job, inputs, cotangents, seed, process)


def _prepared(
    model: nn.Module,
    inputs: Sequence[Any],
    target: str,
    train: bool | None,
    passes: Sequence[Pass | str] | None,
    plain: bool,
    options: Mapping[str, Any],
) -> tuple[Target, CapturedModel, dict[str, Any]]:
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(f"model={shown(model)} is a {type(model).__name__}; give a torch.nn.Module")
    chosen = Target.parse(target)
    names, settings = checked([] if plain else passes, options)
    require_triton()
    if isinstance(model, CompiledModule):
        model = model.original
    if train is None:
        leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
        train = torch.is_grad_enabled() and any(t.requires_grad for t in (*leaves, *model.parameters()))
    captured = CapturedModel.of(model, inputs, train=train)
    job: dict[str, Any] = {"passes": names, "options": settings, "plain": plain}
    return chosen, captured, job


def _interpreted(
    captured: CapturedModel,
    target: Target,
    job: Mapping[str, Any],
    inputs: Sequence[Any],
    cotangents: Sequence[Tensor],
    seed: int,
    process: Process | None,
) -> tuple[Any, dict[str, Tensor]]:
    with tempfile.TemporaryDirectory(prefix="tzwc-run-") as name, _process("run", process) as worker:
        folder = Path(name)
        captured.write_job(folder, target, **job)
        captured.write_tensors(folder, inputs, cotangents, seed)
        worker.ask(folder)
        return captured.results(folder)


def _process(action: Any, process: Process | None) -> Any:
    if process is None:
        return Process(action)
    if process.action != action:
        raise InvalidArgumentError(f"process is one to {process.action!r}: give Process({action!r})")
    return nullcontext(process)
