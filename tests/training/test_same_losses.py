"""Training through tzwc.compile is training: 20 steps in float64, loss by loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

import tzwc
from tests.support.training_toy import RECIPE, SPEC, make_data
from tzwc.data import Dataset, Split
from tzwc.models import Terminator, TerminatorSpec, terminator_spec
from tzwc.models.losses import SlowLoss
from tzwc.training import Recipe, Trainer

SEQUENCE = terminator_spec(
    "smnist",
    sizes=(16,),
    factors=(12, 1),
    classes=3,
    local=[dataclasses.replace(SPEC.local[0], kernel_size=5)],
    concat=SPEC.concat,
    global_net={"hidden": 4, "layers": 1},
    local_net={"hidden": 4, "layers": 1},
    hci_net={"hidden": 4, "layers": 1},
    interaction_channel_net={"hidden": 4, "layers": 1},
    interaction_spatial_net={"hidden": 4, "layers": 1},
    dropout=0.0,
)


def as_sequences(data: Dataset) -> Dataset:
    return dataclasses.replace(data.as_sequences("toy"), test=Split(data.test.inputs.flatten(2), data.test.labels))


def away_from_zero(model: Terminator) -> None:
    """Move what is near zero to between 0.1 and 0.2, which 20 steps of Kar3 do not cross: they go 0.06 at most."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            size = 0.1 + 0.1 * torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            sign = 1 - 2 * torch.randint(2, parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter.abs() < 0.1, sign * size, parameter))


def run_both(
    spec: TerminatorSpec, backend: str, recipe: Recipe, prepare: Callable[[Terminator], None]
) -> tuple[Trainer, Trainer]:
    """20 steps of eager and of compiled training from the same parameters on the same batches."""
    data = make_data() if len(spec.sizes) == 2 else as_sequences(make_data())
    runs = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Terminator(spec).double()
        prepare(model)
        fast = tzwc.compile(model, backend=backend) if compiled else None
        run = Trainer(model, data, recipe, compiled=fast)
        run.fit(steps=20)
        if fast is not None:
            assert fast.specialisations, fast.report()
        runs.append(run)
    return runs[0], runs[1]


def gap(runs: tuple[Trainer, Trainer]) -> float:
    assert [len(run.losses) for run in runs] == [20, 20]
    return max(abs(a - b) for a, b in zip(*(run.losses for run in runs), strict=True))


PLAIN = dataclasses.replace(SPEC, dropout=0.0)
KAR3 = dataclasses.replace(RECIPE, epochs=7, ema=None, lr=1e-3)


@pytest.mark.parametrize(
    ("spec", "backend", "slow_loss"),
    [(PLAIN, "eager", "channel_sum"), (PLAIN, "aot_eager", "tile"), (SEQUENCE, "aot_eager", "channel_sum")],
    ids=["2-D", "2-D, tile", "1-D"],
)
def test_compiled_and_eager_losses_are_equal(spec: TerminatorSpec, backend: str, slow_loss: SlowLoss) -> None:
    # With the norm penalty, and the slow loss. The gradient of a bias before a standardisation is rounding noise plus
    # that of the penalty; Kar3 steps by its sign, which the penalty decides unless the bias is zero.
    recipe = dataclasses.replace(KAR3, slow_loss=slow_loss)
    assert recipe.norm_penalty > 0
    assert gap(run_both(spec, backend, recipe, away_from_zero)) < 1e-8


def test_from_zero_only_biases_before_a_standardisation_part() -> None:
    runs = run_both(PLAIN, "eager", KAR3, lambda _: None)
    # An entry of a bias moves by 3 lr a step at most, in either run, and a norm no more than the sum of its entries:
    # those of the mixers (1 and 12), bottlenecks (12 each) and local offsets (1 and 12), since the penalty leaves the
    # RGUs' out.
    assert gap(runs) < 2 * 20 * 3 * KAR3.lr * (1 + 12 + 12 + 12 + 1 + 12) * KAR3.norm_penalty
    parameters = zip(runs[0].model.named_parameters(), runs[1].model.parameters(), strict=True)
    apart = {name for (name, a), b in parameters if (a - b).abs().max() > 1e-8}
    standardised = (".rgu_x.output.bias", ".rgu_w.output.bias", ".mixer.bias", ".bottleneck.bias", ".offset")
    assert all(name.endswith(standardised) for name in apart), apart
    # Without the penalty, which alone depends on them, the losses are equal.
    without = dataclasses.replace(KAR3, norm_penalty=0.0)
    assert gap(run_both(PLAIN, "eager", without, lambda _: None)) < 1e-8
