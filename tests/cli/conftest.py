from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tzwc.cli.main import app

MODULE = """
import torch
from torch import nn

class Twice(nn.Module):
    def forward(self, x):
        return x + x

class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(torch.ones(3))
        self.write = nn.Linear(3, 16)
    def forward(self, x):
        return x @ self.write(self.code).view(4, 4)

class Gathered(nn.Module):
    def forward(self, indices, table):
        return table[indices]

class Stubborn(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x

class Factories:
    written = Written

ready = Written()
number = 3

def broken():
    raise RuntimeError("no such file")
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Operators are small here, and the demo sets a number of threads for the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run the command line in this process: ``invoke("passes", "--json")``."""
    return lambda *arguments: CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a module ``cli_models`` in it."""
    (tmp_path / "cli_models.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "cli_models", raising=False)
    return tmp_path
