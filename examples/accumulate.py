"""Accumulate gradients over micro-batches, with one forward and one backward of the slow networks for all of them.

python examples/accumulate.py --micro-batches 8 --backend inductor
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tzwc
from tzwc.util.timing import interleave, ratio


def main() -> None:
    """Compare gradients and times with and without ``accumulate()``."""
    options = parse()
    torch.set_num_threads(1)  # these operators are small
    torch.manual_seed(0)
    model = tzwc.models.terminator("digits").double().train()
    fast = tzwc.compile(model, backend=options.backend)
    batches = [example(options.batch) for _ in range(options.micro_batches)]

    plain = gradients(model, batches, nullcontext())
    accumulated = gradients(fast, batches, fast.accumulate())
    peak = max(gradient.abs().max().item() for gradient in plain)
    gap = max((a - b).abs().max().item() for a, b in zip(accumulated, plain, strict=True)) / peak
    print(f"largest difference from the eager gradients, relative to the largest one: {gap:.1e}")
    print(f"gradients agree to 1e-12: {gap < 1e-12}")

    one_by_one, together = interleave(
        {
            "every micro-batch on its own": lambda: gradients(fast, batches, nullcontext()),
            "inside accumulate()": lambda: gradients(fast, batches, fast.accumulate()),
        },
        rounds=options.rounds,
        warm_up=1,
    )
    for timing in (one_by_one, together):
        print(f"{timing.name}: {timing.median * 1e3:.0f} ms for {len(batches)} micro-batches of {options.batch}")
    print(f"accumulate() is {ratio(one_by_one, together):.2f}× as fast")


def gradients(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], block: AbstractContextManager[None]
) -> list[Tensor]:
    """Gradients of the mean loss over all micro-batches, one for each parameter that has any."""
    model.zero_grad()
    with block:
        for images, labels in batches:
            loss = F.cross_entropy(model(images), labels) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def example(batch: int) -> tuple[Tensor, Tensor]:
    """Random images and labels in place of data."""
    return torch.rand(batch, 1, 8, 8, dtype=torch.float64), torch.randint(10, (batch,))


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--micro-batches", type=int, default=8, metavar="N")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images in each")
    parser.add_argument("--backend", default="eager", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    options = parser.parse_args()
    if options.micro_batches < 1 or options.batch < 2:
        parser.error("give at least 1 micro-batch of at least 2 images")
    return options


if __name__ == "__main__":
    main()
