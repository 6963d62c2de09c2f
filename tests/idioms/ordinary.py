"""What nearly every model does, and what compilers have to get right all the same."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function

from tests.idioms.idiom import WHOLE, Manner, inputs, seeded

__all__ = ["MANNERS"]


class GridEachCall(nn.Module):
    """Makes its grid in every forward, in the default dtype."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.linspace(0.5, 2.0, channels))

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.linspace(-1, 1, x.shape[-1])
        window = torch.exp(-self.rates[:, None] * grid**2)
        return x * window


class DeviceAndType(nn.Module):
    """Moves what it makes to the device and the dtype of the input."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        device = x.device
        offsets = torch.arange(x.shape[-1]).to(device).type_as(x)
        noise_free = torch.zeros_like(x).to(x.device, non_blocking=True)
        mask = torch.ones(x.shape[0], 1, device=device).type(x.dtype)
        return (x + offsets * 0.1) * self.weight.to(x) * mask + noise_free


class NoGradRegion(nn.Module):
    """Computes targets without gradients from the same weights."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.latent = nn.Parameter(torch.randn(width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = F.normalize(self.fc(x), dim=-1)
            scale = self.latent.norm(dim=0)
        online = F.normalize(self.fc(x) @ self.latent / scale, dim=-1)
        return online, target


class Detached(nn.Module):
    """Stops gradients on one of two ways."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.codes = nn.Embedding(4, width)

    def forward(self, x: Tensor) -> Any:
        hidden = self.fc(x)
        distances = torch.cdist(hidden.detach(), self.codes.weight)
        nearest = self.codes(distances.argmin(dim=-1))
        return hidden + (nearest - hidden).detach() + 0.1 * (nearest - hidden.detach()) ** 2


class TrainingBranch(nn.Module):
    """Has a head that only training uses."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)
        self.auxiliary = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Any:
        hidden = F.leaky_relu(self.body(x))
        if self.training:
            return self.head(hidden), self.auxiliary(hidden)
        return self.head(hidden).softmax(-1)


def _batch_norm() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Conv1d(4, 2, 1))


def _cumulative_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5, momentum=None), nn.ReLU())


def _dropout() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Unflatten(1, (4, 2)), nn.Dropout1d()
    )


class FunctionalDropout(nn.Module):
    """Drops out in evaluation as well, since somebody forgot the flag; and its generated kernel, too."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.latent = nn.Parameter(torch.randn(width, 3))
        self.slow = nn.Linear(3, width)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.dropout(self.slow(self.latent), 0.2)
        return F.dropout(x @ weight, 0.5)


class Noise(nn.Module):
    """Adds noise to its input and draws random features in every forward."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(-1.0))
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        noisy = x + torch.randn_like(x) * self.log_sigma.exp()
        features = torch.randn(self.width, 4, dtype=x.dtype)
        return torch.cos(noisy @ features + torch.rand(4, dtype=x.dtype))


class Attention(nn.Module):
    """``nn.MultiheadAttention`` with a causal mask, before a normalisation."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), diagonal=1)
        out, _ = self.attention(x, x, x, attn_mask=mask, need_weights=False)
        result: Tensor = self.norm(x + out)
        return result


class Encoder(nn.Module):
    """``nn.TransformerEncoderLayer``, which has another way for evaluation."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x).mean(1)


class Recurrent(nn.Module):
    """``nn.LSTM``, of which the last output is used."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, 6, num_layers=2, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out, (_, cell) = self.lstm(x)
        return self.head(out[:, -1]), cell[-1]


class Recurrence(nn.Module):
    """A recurrence in a Python loop that fills a list."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.cell = nn.GRUCell(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.size(0), 5)
        outputs = []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state)
        return torch.stack(outputs, dim=1)


class FilledByIndex(nn.Module):
    """Fills an empty tensor by indices."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(x.shape[0], 2 * x.shape[1], dtype=x.dtype, device=x.device)
        out[:, ::2] = x * self.weight
        out[:, 1::2] = x.flip(-1)
        for i in range(x.shape[1]):
            out[:, i] += i
        return out


class MarkedRegions(nn.Module):
    """Names its parts for the profiler."""

    def __init__(self, channels: int = 3, taps: int = 5) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, 1, taps) / taps)

    def forward(self, x: Tensor) -> Tensor:
        with record_function("kernel"):
            kernel = self.kernel / self.kernel.norm()
        with record_function("convolution"):
            return F.conv1d(x, kernel, padding="same", groups=x.shape[1])


MANNERS = (
    Manner(
        "grid-each-call",
        "makes torch.linspace of the default dtype in forward",
        seeded(GridEachCall),
        inputs(3, 8),
        WHOLE,
    ),
    Manner("device-and-type", "uses .to(x.device), .type_as(x) and .to(x)", seeded(DeviceAndType), inputs(5), WHOLE),
    Manner("no-grad-region", "computes targets under torch.no_grad()", seeded(NoGradRegion), inputs(5), WHOLE),
    Manner("detach", "estimates gradients straight through, by detach()", seeded(Detached), inputs(5), WHOLE),
    Manner("training-branch", "returns more while self.training", seeded(TrainingBranch), inputs(5), WHOLE),
    Manner("batch-norm", "updates running statistics in training", seeded(_batch_norm), inputs(2, 8), WHOLE),
    Manner(
        "cumulative-batch-norm",
        "averages running statistics over all batches, by the number of batches so far",
        seeded(_cumulative_batch_norm),
        inputs(5),
        WHOLE,
    ),
    Manner("dropout", "drops out in training", seeded(_dropout), inputs(6), WHOLE, random=True),
    Manner(
        "functional-dropout",
        "drops out activations and a generated weight in evaluation too",
        seeded(FunctionalDropout),
        inputs(6),
        WHOLE,
        random=True,
    ),
    Manner("noise", "adds noise and draws random features", seeded(Noise), inputs(5), WHOLE, random=True),
    Manner("attention", "uses nn.MultiheadAttention with a mask", seeded(Attention), inputs(4, 8), WHOLE),
    Manner("encoder-layer", "uses nn.TransformerEncoderLayer", seeded(Encoder), inputs(4, 8), WHOLE),
    Manner("lstm", "uses nn.LSTM", seeded(Recurrent), inputs(5, 4), WHOLE),
    Manner("recurrence", "loops over time with a GRUCell", seeded(Recurrence), inputs(4, 4), WHOLE),
    Manner("marked-regions", "marks regions with record_function", seeded(MarkedRegions), inputs(3, 8), WHOLE),
    Manner("filled-by-index", "fills a tensor of zeros by indices", seeded(FilledByIndex), inputs(4), WHOLE),
)
