"""Small modules as pipeline stages, with the arguments that run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind

from tzwc.inspection import Stage
from tzwc.ir.graph import insert_call
from tzwc.rewrite.pass_manager import Pass, PassContext, run_pipeline


class Layers(nn.Module):
    """Linear, convolution, dropout, a buffer that is written, and a submodule path of two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.GELU())
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(x)).mean((2, 3)))


class Indexing(nn.Module):
    """Slices, concatenation of many parts, chunks, several results."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = [x[:, :, i::2] * (i - 3.5) for i in range(2)] * 6
        left, right = torch.cat(parts, -1)[..., 1:].chunk(2, 1)
        return left, right.flip(-1)


class Constants(nn.Module):
    """Infinities, NaN, complex numbers, dtypes, devices, memory formats, a constant tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.tensor([[1.0, float("inf")], [-0.0, 1e-30]])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x.masked_fill(x > 0, float("-inf")).nan_to_num(neginf=-1.5)
        z = torch.full((2, 2), float("nan"), dtype=torch.float64, device=x.device)
        w = x.to(torch.float64, memory_format=torch.channels_last) * complex(-0.0, 2.0)
        return y, z + self.table, w, x.sum(dtype=torch.float64)


class Spectral(nn.Module):
    """Einstein sums and Fourier transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(5, 3))
        self.kernel = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum("bchw,dc->bdhw", x, self.mix)
        spectrum = torch.fft.rfft(y, n=16) * torch.fft.rfft(self.kernel, n=16)[:, None]
        return torch.fft.irfft(spectrum, n=16)[..., :8]


class Shapes(nn.Module):
    """Arithmetic on a symbolic batch size."""

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        y = x.reshape(batch * 3, -1) + torch.full((batch * 3, 1), 0.5, device=x.device)
        return y.reshape(batch, -1) * batch


class Mode(nn.Module):
    """A region without gradients, which becomes a submodule of a higher-order operator."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            shift = x.mean() * self.scale
        return (x + shift) * self.scale


MODULES: dict[str, Callable[[], nn.Module]] = {
    "layers": Layers,
    "layers_eval": lambda: Layers().eval(),
    "indexing": Indexing,
    "constants": Constants,
    "spectral": Spectral,
    "shapes": Shapes,
    "mode": Mode,
}


@dataclass(frozen=True)
class Case:
    """Stages of one module.

    Attributes:
        stages: capture, then a pass that changes nothing, then one that rewrites.
        root: holds the graph's submodules.
        slots: dotted names by placeholder.
        slot_values: tensors for the first placeholders.
        input: tensor for the last placeholder, of another batch size than at capture.
    """

    stages: list[Stage]
    root: fx.GraphModule
    slots: dict[str, str]
    slot_values: list[Tensor]
    input: Tensor

    def arguments(self) -> list[Tensor]:
        """Fresh copies, since some graphs write to their buffers."""
        return [value.detach().clone() for value in self.slot_values] + [self.input.clone()]


@cache
def case(name: str) -> Case:
    """Capture the module called ``name`` with a symbolic batch and run it through trivial passes."""
    torch.manual_seed(0)
    module = MODULES[name]()
    program = export(module, (torch.randn(4, 3, 8, 8),), strict=False, dynamic_shapes=({0: Dim("batch")},))
    slots, values = _slots(module, program)
    records = run_pipeline(program.graph_module, [NOTHING, SWAP], options={}, static_slots=frozenset(slots))
    stages = [Stage.of(record) for record in records]
    return Case(stages, program.graph_module, slots, values, torch.randn(6, 3, 8, 8))


def _slots(module: nn.Module, program: ExportedProgram) -> tuple[dict[str, str], list[Tensor]]:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers()), **program.constants}
    specs = [s for s in program.graph_signature.input_specs if s.kind != InputKind.USER_INPUT]
    return {s.arg.name: str(s.target) for s in specs}, [tensors[str(s.target)] for s in specs]


def _swap_factors(module: fx.GraphModule, context: PassContext) -> None:
    """``mul(a, b) -> mul(b, a)``, which changes no bit of the result."""
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor):
        a, b = node.args
        if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)):
            context.remark("declined", "swap", f"one factor of {node.name} is a number", [node], factor=str(b))
            continue
        with module.graph.inserting_before(node):
            new = insert_call(module.graph, torch.ops.aten.mul.Tensor, (b, a), like=node, made_by="swap_factors/swap")
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)
        context.remark("applied", "swap", "mul(a, b) -> mul(b, a)", [new], seconds_saved=1e-6)


NOTHING = Pass("nothing", "Change nothing.", lambda _module, _context: None)
SWAP = Pass("swap_factors", "Swap the factors of every product.", _swap_factors)


def same(a: object, b: object) -> bool:
    """Whether two results are equal bit for bit, NaN included."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(_bits(a), _bits(b))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def run(stage: Stage, case: Case) -> object:
    """What the stage computes.

    Interpreted: the code that torch.fx generates turns complex(-0.0, 2.0) into complex(0.0, 2.0).
    """
    return interpret(fx.GraphModule(case.root, stage.graph), case)


def interpret(module: fx.GraphModule, case: Case) -> object:
    """Run the nodes of ``module`` one by one."""
    torch.manual_seed(1)
    return fx.Interpreter(module).run(*case.arguments())
