"""Peak memory of a forward and backward pass, by algorithm.

Counted are the bytes that torch's allocator has handed out and not got back, beyond those of the operands, as its
profiler reports them: results, gradients, copies and spectra. What a library (oneDNN, MKL) allocates past torch's
allocator is not in it.
"""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from tzwc.autotune.workload import operands
from tzwc.ops import convolution
from tzwc.ops.conv import Problem, legal_algorithms
from tzwc.ops.conv.problem import DIRECTIONS

__all__ = ["peak_by_algorithm", "peak_bytes"]


def peak_by_algorithm(problem: Problem, names: list[str]) -> dict[str, int]:
    """Peak bytes for each of ``names`` that can compute the forward problem and both of its gradients."""
    found = {}
    for name in names:
        if all(name in legal_algorithms(p)[0] for p in (problem.with_(direction=d) for d in DIRECTIONS)):
            found[name] = peak_bytes(problem, (name, name, name))
    return found


def peak_bytes(problem: Problem, names: tuple[str, str, str]) -> int:
    """Peak bytes with these algorithms for the result, the gradient of the input and that of the kernel."""
    x, kernel = (t.requires_grad_() for t in operands(problem.with_(direction="forward")))

    def call() -> None:
        x.grad = kernel.grad = None
        y = convolution(
            x,
            kernel,
            **problem.keywords(),
            algorithm=names[0],
            input_gradient=names[1],
            weight_gradient=names[2],
        )
        y.sum().backward()  # type: ignore[no-untyped-call]

    call()  # libraries keep some memory for later calls, which is not of this one
    x.grad = kernel.grad = None
    return _peak_cuda(call) if problem.device == "cuda" else _peak_cpu(call)


def _peak_cpu(call: object) -> int:
    assert callable(call)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    # The raw events are in the order of time; each says how much was allocated (or, if negative, freed) by it.
    result = trace.profiler.kineto_results
    now = peak = 0
    events = [event for event in result.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def _peak_cuda(call: object) -> int:
    assert callable(call)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    return int(torch.cuda.max_memory_allocated()) - before
