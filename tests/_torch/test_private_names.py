"""PyTorch's private names: all exist here and do what is expected, and no other module knows them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tzwc._torch import names, self_test

ROOT = Path(__file__).parents[2]
_HOME = ROOT / "tzwc" / "_torch"
# Follows Inductor's classes and replaces parts of PyTorch, in a process of its own that nothing else depends on.
_INSIDE_OF_INDUCTOR = ROOT / "tzwc" / "cross_compile" / "worker"


def _sources() -> list[Path]:
    """All modules but those that may know private names; ``tzwc/passes`` and ``tzwc/models`` link to the other two."""
    paths = {path.resolve() for folder in ("tzwc", "passes", "models") for path in (ROOT / folder).rglob("*.py")}
    return sorted(path for path in paths if not {_HOME, _INSIDE_OF_INDUCTOR} & set(path.parents))


def test_this_pytorch_has_all_names_and_they_behave_as_expected() -> None:
    """What ``python -m tzwc._torch`` prints, in a process of its own: it must load by itself."""
    done = subprocess.run([sys.executable, "-m", "tzwc._torch"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "all private names fit" in done.stdout


@pytest.mark.parametrize("path", self_test.modules(), ids=lambda path: path.stem)
def test_every_name_says_what_it_is(path: Path) -> None:
    """A docstring stands below each name, or in the function."""
    documented = self_test.public_names(path)
    assert documented
    assert [name for name, has_docstring in documented.items() if not has_docstring] == []


@pytest.mark.parametrize("path", self_test.modules(), ids=lambda path: path.stem)
def test_every_module_stands_on_pytorch_alone(path: Path) -> None:
    """The lowest floor: no module of names imports anything of tzwc."""
    assert "tzwc" not in path.read_text(encoding="utf-8").replace("tzwc's own", "")


def test_the_self_test_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A missing module, a missing function, and a changed kind are told with their lines."""
    path = tmp_path / "made_up.py"
    path.write_text("import torch\nfrom torch._gone import x\n\nf = torch._C._missing\n", encoding="utf-8")
    monkeypatch.setattr(self_test, "modules", lambda: [path])
    faults = self_test.faults()
    assert len(faults) == 2
    assert "made_up.py:2: torch._gone.x: there is no torch._gone" in faults[0]
    assert "made_up.py:4: torch._C._missing: there is no torch._C._missing" in faults[1]


def test_no_other_module_uses_private_names() -> None:
    """A name that is needed gets a plain one in ``tzwc/_torch``; there may be a public way, too."""
    sources = _sources()
    assert len(sources) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources
        for line, name in names.private_names(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch._dynamo", "torch._dynamo"),
        ("import torch._inductor.config as c; c.freezing", "torch._inductor.config.freezing"),
        ("from torch._guards import tracing", "torch._guards.tracing"),
        ("from torch.utils import _pytree as p; p.tree_map()", "torch.utils._pytree.tree_map"),
        ("import torch; torch._C._len_torch_dispatch_stack()", "torch._C._len_torch_dispatch_stack"),
        (
            "from torch.autograd import forward_ad as f; f._current_level",
            "torch.autograd.forward_ad._current_level",
        ),
        ("from torch import Tensor; Tensor._is_view(x)", "torch.Tensor._is_view"),
        ("import torch; getattr(torch, '_foreach_add_')", "torch._foreach_add_"),
        ("import torch; vars(torch.Tensor)['_version']", "torch.Tensor._version"),
        ("from importlib import import_module; import_module('torch._inductor')", "torch._inductor"),
    ],
)
def test_private_names_are_found_however_they_are_reached(line: str, name: str) -> None:
    """Imports, attributes, and constant strings."""
    assert name in [found for _, found in names.private_names(line)]


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.ops.aten._unsafe_view.default",
        "import torch; torch.add.__name__",
        "from tzwc._torch import pytree; pytree.tree_map",
        "self._torch._C._x",
        "text = 'torch._C._nn'",
    ],
)
def test_public_names_are_not_found(line: str) -> None:
    """Operators, special names, our own modules, and text that names something without reaching for it."""
    assert names.private_names(line) == []
