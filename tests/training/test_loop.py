"""The loop: resumption to the last bit, interruption, accumulation, averages, precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tzwc
import tzwc.training
from tests.support.training_toy import RECIPE, assert_same, make_data, make_model, trainer
from tzwc.errors import InvalidArgumentError
from tzwc.models import label_smoothing_cross_entropy, norm_penalty
from tzwc.training import Checkpoint, CheckpointError, Trainer
from tzwc.training.recipe import _torch_optimizers


def test_one_step_is_what_the_formulas_say() -> None:
    recipe = dataclasses.replace(
        RECIPE, crop=0, flip=False, ema=None, optimizer="SGD", clip=None, epochs=1, warm_up=0, slow_weight=0.5
    )
    found = trainer(recipe)
    inputs, labels = found._batch()
    model = make_model()
    torch.manual_seed(found.recipe.seed_for(3, 0, 0))  # dropout
    logits, slow = model.train()(inputs, slow_loss="channel_sum")
    loss = label_smoothing_cross_entropy(logits, labels, 0.1) + 0.5 * slow + norm_penalty(model)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(recipe.lr * parameter.grad)
    found.fit(steps=1)
    assert found.losses[0] == loss.item()
    for a, b in zip(found.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_same_seed_gives_the_same_run_and_leaves_the_generators_alone() -> None:
    first, second = trainer(), trainer()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first.fit()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second.fit()
    assert_same(first, second)
    other = trainer(dataclasses.replace(RECIPE, seed=1))
    other.fit(steps=2)
    assert other.losses != first.losses[:2]


@pytest.mark.parametrize(("optimizer", "stop"), [("Kar3", 4), ("Kar3", 6), ("Kar2", 4), ("AdamW", 4)])
def test_resuming_is_going_on(optimizer: str, stop: int, tmp_path: Path) -> None:
    """In the middle of an epoch, and at its end."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    straight = trainer(recipe)
    straight.fit()
    trainer(recipe, tmp_path).fit(steps=stop)
    second = trainer(recipe, tmp_path)
    second.resume(Checkpoint.load(tmp_path))
    assert second.step == stop
    second.fit()
    assert_same(straight, second)
    assert straight.average is not None
    assert second.average is not None
    for a, b in zip(straight.average.values, second.average.values, strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "log.csv").read_text().count("\n") == 4


@pytest.mark.parametrize("optimizer", sorted({*_torch_optimizers()} - {"Muon"}))
def test_every_optimiser_goes_on(optimizer: str, tmp_path: Path) -> None:
    """Muon takes matrices alone; all others keep states of every kind."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    straight = Trainer(without_batch_statistics(), make_data(), recipe)
    straight.fit(steps=4)
    Trainer(without_batch_statistics(), make_data(), recipe, folder=tmp_path).fit(steps=2)
    second = Trainer(without_batch_statistics(), make_data(), recipe)
    second.resume(Checkpoint.load(tmp_path))
    second.fit(steps=4)
    assert_same(straight, second)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"micro_batches": 2}, {}),
        ({"precision": "bfloat16"}, {}),
        ({"precision": "bfloat16", "micro_batches": 2, "clip": 0.5, "slow_loss": "tile"}, {"backend": "eager"}),
    ],
    ids=["accumulation", "bfloat16", "everything, compiled"],
)
def test_resuming_is_going_on_with_every_feature(
    changes: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    """The average of the parameters and dropout are always there; several processes have a test of their own."""
    recipe = dataclasses.replace(RECIPE, **changes)
    straight = trainer(recipe, **options)
    straight.fit(steps=6)
    trainer(recipe, tmp_path, **options).fit(steps=4)
    second = trainer(recipe, **options)
    second.resume(Checkpoint.load(tmp_path))
    second.fit(steps=6)
    assert_same(straight, second)
    assert straight.losses[4:] == second.losses


def without_batch_statistics() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))


def test_micro_batches_add_up() -> None:
    plain = dataclasses.replace(RECIPE, optimizer="SGD", ema=None)
    runs = []
    for parts in (1, 2, 4):
        run = Trainer(without_batch_statistics(), make_data(), dataclasses.replace(plain, micro_batches=parts))
        run.fit()
        runs.append(run)
    for run in runs[1:]:
        torch.testing.assert_close(
            torch.tensor(run.losses, dtype=torch.float64),
            torch.tensor(runs[0].losses, dtype=torch.float64),
            rtol=1e-9,
            atol=0,
        )
        for a, b in zip(run.model.parameters(), runs[0].model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_accumulate_runs_the_slow_networks_once() -> None:
    recipe = dataclasses.replace(RECIPE, micro_batches=2, optimizer="SGD")
    eager, fast = trainer(recipe), trainer(recipe, backend="eager")
    eager.fit(steps=3)
    fast.fit(steps=3)
    torch.testing.assert_close(
        torch.tensor(fast.losses, dtype=torch.float64),
        torch.tensor(eager.losses, dtype=torch.float64),
        rtol=1e-9,
        atol=1e-12,
    )


def test_bfloat16_keeps_float32_parameters() -> None:
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    exact, rough = trainer(dataclasses.replace(RECIPE, precision="float32")), trainer(recipe)
    exact.fit(steps=1)
    rough.fit(steps=1)
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}
    assert rough.losses != exact.losses
    # 8 bits of mantissa, some twenty operators in a row.
    assert rough.losses[0] == pytest.approx(exact.losses[0], rel=0.1)


def test_the_average_is_evaluated_and_the_parameters_come_back() -> None:
    run = trainer()
    run.fit(steps=4)
    assert run.average is not None
    before: list[Tensor] = [p.detach().clone() for p in run.model.parameters()]
    averaged = run.evaluate()
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.parameters(), strict=True))
    with run.average.applied():
        assert not torch.equal(before[0], next(run.model.parameters()))
        other = tzwc.training.evaluate(run.model, run.data.test, run.data.normalise, run.recipe.batch)
    assert averaged == other


def test_a_time_limit_ends_the_run() -> None:
    run = trainer(dataclasses.replace(RECIPE, epochs=10_000))
    run.fit(seconds=0.2)
    assert 1 <= run.step < run.steps
    assert run.optimizer.param_groups[0]["lr"] < RECIPE.lr


def other_recipe(run: Trainer) -> None:
    run.recipe = dataclasses.replace(RECIPE, lr=5e-3)


def other_data(run: Trainer) -> None:
    run.data = dataclasses.replace(run.data, name="other")


@pytest.mark.parametrize(
    ("change", "message"),
    [(other_recipe, r"lr = 0\.005: the checkpoint was made with 0\.01"), (other_data, r"data = 'other'.*'toy'")],
)
def test_what_does_not_belong_together_is_not_resumed(
    change: Callable[[Trainer], None], message: str, tmp_path: Path
) -> None:
    trainer(folder=tmp_path).fit(steps=1)
    run = trainer()
    change(run)
    with pytest.raises(CheckpointError, match=message):
        run.resume(Checkpoint.load(tmp_path))


def test_batches_that_cannot_be_made() -> None:
    with pytest.raises(InvalidArgumentError, match=r"batch = 64: expected .* at most the 26 samples of toy"):
        trainer(dataclasses.replace(RECIPE, batch=64))
