"""Presets, losses and optimisers, and a model that really learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tzwc.errors import InvalidArgumentError, SpecError
from tzwc.models import (
    PRESETS,
    Kar2,
    Kar3,
    Terminator,
    label_smoothing_cross_entropy,
    norm_penalty,
    slow_neural_loss,
    terminator,
    terminator_spec,
)

EXPECTED = {
    "cifar10": (1_336_855, (32, 32), 3, 10),
    "cifar100": (1_362_865, (32, 32), 3, 100),
    "stl10": (1_500_695, (96, 96), 3, 10),
    "smnist": (1_327_127, (784,), 1, 10),
    "pmnist": (1_327_127, (784,), 1, 10),
    "scifar10": (1_332_951, (1024,), 3, 10),
    "digits": (64_691, (8, 8), 1, 10),
}


def test_every_preset_is_expected() -> None:
    assert set(PRESETS) == set(EXPECTED)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str) -> None:
    with torch.device("meta"):
        model = terminator(preset)
    parameters, sizes, in_channels, classes = EXPECTED[preset]
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert (model.spec.sizes, model.spec.in_channels, model.spec.classes) == (sizes, in_channels, classes)


def test_cifar10_forward() -> None:
    assert terminator("cifar10").eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("preset", ["cifar10", "smnist"])
def test_figure(preset: str) -> None:
    spec = terminator_spec(preset, figure=True)
    assert len(spec.local) == 3
    assert len(spec.concat_of(0)) == 9
    taps = [branch.kernel_size for branch in spec.local]
    assert taps == ([5, 7, 9] if preset == "cifar10" else [25, 49, 81])
    assert [(branch.kernel_from, branch.applied_to) for branch in spec.local] == [
        ("x", "hci"),
        ("x", "mix"),
        ("mix", "x"),
    ]


def test_overrides() -> None:
    spec = terminator_spec("cifar10", classes=4, global_net={"hidden": 16})
    assert spec.classes == 4
    assert (spec.global_net.hidden, spec.global_net.layers) == (16, (3, 2))


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("cifar", {}, "preset = 'cifar': expected one of cifar10, .*did you mean 'cifar10'"),
        ("cifar10", {"classess": 3}, "field = 'classess': expected one of axes, .*did you mean 'classes'"),
        ("cifar10", {"global_net": {"widht": 3}}, "field = 'global_net.widht'"),
    ],
)
def test_unknown_names_are_refused(preset: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        terminator(preset, **overrides)


def test_label_smoothing_is_its_definition() -> None:
    logits, labels = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 3, 1, 1, 2])
    log_p = logits.log_softmax(1)
    nll = -log_p[torch.arange(5), labels].mean()
    for smoothing in (0.0, 0.09, 0.1):
        expected = (1 - smoothing) * nll + smoothing / 4 * (-log_p).sum(1).mean()
        torch.testing.assert_close(label_smoothing_cross_entropy(logits, labels, smoothing), expected)


def test_slow_neural_loss_is_its_definition() -> None:
    kernels = [torch.randn(1, c, 3, 2, dtype=torch.float64) for c in (2, 4, 12)]
    pairs = [(0, 1, 2), (0, 2, 6), (1, 2, 3)]
    tile = sum(((kernels[j].repeat(1, n, 1, 1) - kernels[i]) ** 2).mean() for j, i, n in pairs)
    sums = sum(((kernels[j].sum(1) - kernels[i].sum(1)) ** 2).mean() for j, i, _ in pairs)
    torch.testing.assert_close(slow_neural_loss(kernels, (2, 3, 1), "tile"), tile)
    torch.testing.assert_close(slow_neural_loss(kernels, (2, 3, 1), "channel_sum"), sums)
    assert slow_neural_loss(kernels[:1], (2,)) == 0


@pytest.mark.parametrize(
    ("kernels", "factors", "variant", "message"),
    [
        (1, (2,), "mean", "slow_loss = 'mean'"),
        (2, (2,), "tile", "2 kernels and 1 factors"),
        (0, (), "tile", "0 kernels"),
        (2, (3, 1), "tile", r"factors\[0\] = 3: expected 2 / 2"),
    ],
)
def test_bad_slow_loss_is_refused(kernels: int, factors: tuple[int, ...], variant: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        slow_neural_loss([torch.zeros(1, 2, 3)] * kernels, factors, variant)


@pytest.mark.parametrize("preset", ["digits", "smnist"])
def test_norm_penalty_is_its_definition(preset: str) -> None:
    sizes = (8, 8) if preset == "digits" else (16,)
    model = terminator(preset, sizes=sizes, factors=(12,), global_net={"layers": 2})
    outside, inside = 0.0, 0.0
    for name, parameter in model.named_parameters():
        norm = parameter.detach().norm().item()
        if any(part in name for part in ("global_net", "rgu_", "generator", "spatial_net")):
            inside += norm if name.endswith("weight") else 0.0
        elif "hci.net" not in name and "channel_net" not in name:
            outside += norm
    assert norm_penalty(model).item() == pytest.approx(5e-5 * outside + 5e-11 * inside, rel=1e-5)
    assert norm_penalty(model, 1.0, 1.0).item() == pytest.approx(outside + inside, rel=1e-5)


@pytest.mark.parametrize(("optimizer", "betas"), [(Kar2, (0.9,)), (Kar3, (0.5, 0.95))])
def test_optimizers_are_their_formula(optimizer: Any, betas: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(3, 2, dtype=torch.float64)), nn.Parameter(torch.randn(4, dtype=torch.float64))]
    expected = [p.detach().clone() for p in params]
    moments = [[torch.zeros_like(p) for _ in betas] for p in expected]
    opt = optimizer(params, lr=0.01, betas=betas)
    for _ in range(6):
        for k, p in enumerate(params):
            p.grad = torch.randn_like(p)
            p.grad[0] = 0
            step = torch.sign(p.grad)
            for m in moments[k]:
                step = step + torch.sign(m)
            expected[k] = expected[k] - 0.01 * step
            moments[k] = [b * m + (1 - b) * p.grad for b, m in zip(betas, moments[k], strict=True)]
        opt.step()
        for p, e in zip(params, expected, strict=True):
            torch.testing.assert_close(p.detach(), e, rtol=1e-12, atol=1e-14)


def test_optimizer_resumes_from_its_state() -> None:
    def run(steps: int, state: dict[str, Any] | None, value: Tensor) -> tuple[Kar3, Tensor]:
        p = nn.Parameter(value.clone())
        opt = Kar3([{"params": [p], "lr": 0.1}], lr=1.0)
        if state is not None:
            opt.load_state_dict(state)
        for _ in range(steps):
            opt.zero_grad()
            (p - 0.3).square().sum().backward()
            opt.step()
        return opt, p.detach()

    start = torch.tensor([1.0, -2.0, 0.5])
    _, whole = run(7, None, start)
    half, value = run(3, None, start)
    _, resumed = run(4, half.state_dict(), value)
    assert torch.equal(whole, resumed)


def test_optimizer_closure_and_missing_gradients() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opt = Kar3([used, unused], lr=0.1)

    def closure() -> float:
        opt.zero_grad()
        loss = used.sum()
        loss.backward()
        return loss.item()

    assert opt.step(closure) == 2.0
    assert torch.equal(used.detach(), torch.full((2,), 0.9))
    assert torch.equal(unused.detach(), torch.ones(2))
    assert opt.step() is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"lr": -1.0}, "lr = -1.0"),
        ({"lr": float("nan")}, "lr = nan"),
        ({"betas": (0.5,)}, "expected a tuple of length 2"),
        ({"betas": (0.5, 1.0)}, r"expected numbers in \[0, 1\)"),
    ],
)
def test_bad_hyper_parameters_are_refused(kwargs: dict[str, Any], message: str) -> None:
    param = nn.Parameter(torch.zeros(1))
    with pytest.raises(InvalidArgumentError, match=message):
        Kar3([param], **kwargs)
    with pytest.raises(InvalidArgumentError, match=message):
        Kar3([{"params": [param], **kwargs}])


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(3, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InvalidArgumentError, match="sparse"):
        Kar2(table.parameters()).step()


def test_digits_are_learnt() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    x = (torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) - 4.9) / 6.0
    y = torch.tensor(labels)
    torch.manual_seed(0)
    order = torch.randperm(len(x))
    train, test = order[:1344], order[1344 : 1344 + 448]  # whole batches: evaluation uses their statistics
    model: Terminator = terminator("digits")
    optimizer = Kar3(model.parameters(), lr=1.2e-3)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=21)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6 * 21)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, cosine], [21])
    for _ in range(7):
        for batch in train[torch.randperm(1344)].split(64):
            optimizer.zero_grad()
            logits, slow = model(x[batch], slow_loss="channel_sum")
            (label_smoothing_cross_entropy(logits, y[batch]) + slow).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(x[batch]) for batch in test.split(64)])
    assert (logits.argmax(1) == y[test]).float().mean() > 0.95
    assert F.cross_entropy(logits, y[test]) < 0.5
