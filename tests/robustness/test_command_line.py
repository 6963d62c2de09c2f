"""Every command, with arguments that make no sense: exit code 0, 1 or 2, one message, and never somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import tzwc
from tests.support.examples import examples
from tests.support.hostile_input import texts
from tests.support.tiny_model import Tiny
from tzwc.cli.main import app

TINY = "tests.support.tiny_model:Tiny"
NEVER = ("--backend", "no such backend")
"""Comes last and therefore holds: what would run for minutes is refused."""

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "passes": (("passes",), ()),
    "compile": (
        (
            "compile",
            TINY,
            "--input",
            "2x3",
            "--passes",
            "cse",
            "--dtype",
            "float32",
            "--tune",
            "off",
            "--dump",
            "d",
            "--json",
        ),
        ("--backend", "eager"),
    ),
    "explain": (("explain", TINY, "--input", "2x3", "--pass", "cse", "--kind", "note", "--module", "x"), ()),
    "verify": (("verify", TINY, "--input", "2x3", "--tolerance", "1e-3", "--dtype", "float32"), ()),
    "bisect": (("bisect", TINY, "--input", "2x3", "--passes", "cse", "--script", "s.py"), ()),
    "diff": (("diff", "dump", "capture", "cse", "--limit", "3"), ()),
    "view": (("view", "dump", "--port", "0"), ("--no-open",)),
    "train": (
        ("train", "mnist", "--set", "ema=0.9", "--batch", "64", "--lr", "1", "--seed", "1", "--out", "o"),
        ("--data", "none"),
    ),
    "evaluate": (
        ("evaluate", "run", "--data", "none", "--resolution", "8x8", "--kernels", "evaluate", "--with", "eager"),
        (),
    ),
    "predict": (("predict", "run", "x.npy", "y.png"), ()),
    "lower": (("lower", TINY, "--input", "2x3", "--dtype", "float32"), ("--target", "no such target")),
    "calibrate": (("calibrate", "--seconds", "1", "--threads", "1"), ("--device", "no such device")),
    "cache list": (("cache", "list", "--json"), ()),
    "cache clear": (("cache", "clear"), ()),
    "bench cache": (("bench", "cache", "--presets", "digits", "--batches", "1", "--contenders", "eager"), NEVER),
    "bench capture": (("bench", "capture", "--preset", "digits", "--batches", "2", "--contenders", "eager"), NEVER),
    "bench model": (
        ("bench", "model", "--presets", "digits", "--batches", "2", "--modes", "inference", "--limit", "9"),
        NEVER,
    ),
    "bench train": (("bench", "train", "--tasks", "digits", "--contenders", "eager", "--rounds", "2"), NEVER),
    "bench convolution": (("bench", "convolution", "--cases", "1", "--seed", "1", "--rounds", "2"), NEVER),
    "demo": (("demo", "--epochs", "1", "--seconds", "1"), NEVER),
}
# What a shell can pass on: no NUL, and bytes that are no UTF-8 as Python reads them.
words = texts.map(lambda text: text.replace("\0", "").encode("utf-8", "ignore").decode() or "\udcff")
strange = st.one_of(
    words, st.sampled_from(["-1", "0", "1e400", "nan", "-", "--", "-h", "dump", "9" * 400, "1x" * 50 + "1"])
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dump in it, below others, so that what is written to ``../..`` is in nobody's way."""
    import torch

    place = tmp_path_factory.mktemp("deep") / "deeper" / "deepest"
    place.mkdir(parents=True)
    fast = tzwc.compile(Tiny(), backend="eager")
    fast(torch.ones(2, 3))
    fast.dump(place / "dump")
    (place / "run").mkdir()
    (place / "run" / "last.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    (place / "x.npy").write_bytes(b"\x93NUMPY")
    (place / "y.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return place


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=examples(5))
@given(draw=st.data())
def test_commands(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, draw: st.DataObject) -> None:
    base, fixed = COMMANDS[name]
    monkeypatch.chdir(folder)
    arguments = list(base)
    start = len(name.split())
    for _ in range(draw.draw(st.integers(0, 2))):
        if len(arguments) > start:
            place = draw.draw(st.integers(start, len(arguments) - 1))
            if draw.draw(st.integers(0, 4)):
                arguments[place] = draw.draw(strange)
            else:
                del arguments[place]
    result = CliRunner().invoke(app, [*arguments, *fixed])
    said = result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert result.exit_code in (0, 1, 2), (arguments, said)
    assert said.strip() or result.exit_code == 0, arguments
    assert "Traceback" not in said
    assert "--traceback shows where" not in said, (arguments, said)


@pytest.mark.parametrize("target", ["raising", "needy", "nothing", "torch.load", "__builtins__", "Tiny.weight"])
def test_factories_that_make_no_model(target: str) -> None:
    result = CliRunner().invoke(app, ["compile", f"tests.support.tiny_model:{target}", "--input", "2x3"])
    assert result.exit_code in (1, 2)
    assert "error:" in result.output
    assert "--traceback shows where" not in result.output
