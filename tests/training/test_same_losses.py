"""Training through tzwc.compile is training: 20 steps in float64, loss by loss."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import tzwc
from tests.training.toy import RECIPE, SPEC, make_data
from tzwc.data import Dataset, Split
from tzwc.models import Terminator, TerminatorSpec, terminator_spec
from tzwc.training import Trainer

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


@pytest.mark.parametrize(
    ("spec", "backend"),
    [(dataclasses.replace(SPEC, dropout=0.0), "eager"), (SEQUENCE, "aot_eager")],
    ids=["2-D", "1-D"],
)
def test_compiled_and_eager_losses_are_equal(spec: TerminatorSpec, backend: str) -> None:
    # Gradients of biases before a standardisation are rounding noise, and Kar3 steps by its sign. The logits do not
    # depend on these biases; the norm penalty does, so with it the losses part by 1e-7 in some steps.
    recipe = dataclasses.replace(RECIPE, epochs=7, ema=None, lr=1e-3, norm_penalty=0.0)
    data = make_data() if len(spec.sizes) == 2 else as_sequences(make_data())
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Terminator(spec).double()
        fast = tzwc.compile(model, backend=backend) if compiled else None
        run = Trainer(model, data, recipe, compiled=fast)
        run.fit(steps=20)
        losses.append(torch.tensor(run.losses, dtype=torch.float64))
        if fast is not None:
            assert fast.specialisations, fast.report()
    assert len(losses[0]) == 20
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=1e-8)
