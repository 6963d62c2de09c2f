"""What a candidate may need is known before it is run, and nobody runs who needs more than a measurement may."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

import tzwc.autotune.choice
from tests.support.fake_timer import FakeTimer
from tests.support.memory_samples import depthwise
from tzwc.autotune import choose
from tzwc.autotune.measure import Limits
from tzwc.autotune.memory import operand_bytes, transient_bytes
from tzwc.autotune.random_problems import Bounds, draw
from tzwc.autotune.timers import Call
from tzwc.ops.conv import Algorithm, Problem, compute, legal_algorithms
from tzwc.ops.conv.generated_code import MOST_CODE, code_bytes, code_objection
from tzwc.ops.conv.problem import DIRECTIONS

MEASURED = [  # taps, GB with AVX2 and two threads, depthwise, 16 channels but for the last, padded by oneDNN
    ((255,), 0.013),
    ((999,), 0.56),
    ((1499,), 1.88),
    ((1999,), 4.41),
    ((31, 31), 0.19),
    ((999,), 4.92),
]


@pytest.mark.parametrize(("kernel", "gigabytes"), MEASURED)
def test_the_bound_for_code_is_above_what_was_measured(kernel: tuple[int, ...], gigabytes: float) -> None:
    assert code_bytes(depthwise(*kernel)) >= gigabytes * 1e9


@pytest.mark.parametrize("kernel", [(1999,), (3999,), (16383,), (45, 45)])
def test_no_layout_leaves_the_padding_of_long_kernels_to_onednn(kernel: tuple[int, ...]) -> None:
    problem = depthwise(*kernel)
    legal, declined = legal_algorithms(problem)
    assert "channels_last" in legal
    assert "pads in advance as well" in declined["channels_last_prepadded"]
    _, declined = legal_algorithms(problem.with_(direction="input_gradient"))
    assert "code" in declined["channels_last"]
    assert "code" in declined["channels_last_prepadded"]


@pytest.mark.parametrize("tune", ["model", "measure"])
def test_native_does_not_win_where_its_input_is_channels_last(tune: str) -> None:
    problem = depthwise(45, 45).with_(channels_last=True)
    choice = choose(problem, tune=tune, limits=Limits(seconds=0.05))  # type: ignore[arg-type]
    assert choice.algorithm != "native"
    assert "code" in choice.declined["native"]
    assert "native" not in choose(depthwise(45, 45), tune="model").declined


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_run_is_within_the_bounds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random problems, of which many are far too large to be tried."""
    rng = random.Random(seed)
    limits = Limits(memory=2.0**24 * rng.choice((2, 4, 64)))
    run: list[tuple[Problem, Algorithm]] = []

    def maker(problem: Problem, algorithm: Algorithm, _: object) -> Callable[[], Call]:
        run.append((problem, algorithm))
        return lambda: lambda: 1e-3

    monkeypatch.setattr(tzwc.autotune.choice, "call_maker", maker)
    monkeypatch.setattr(tzwc.autotune.choice, "operands", lambda _: (None, None))
    for _ in range(10):
        problem = draw(rng, Bounds(elements=2.0**26, products=2.0**40, kernel=2.0**26))
        problem = problem.with_(
            direction=rng.choice(DIRECTIONS), channels_last=problem.axes == 2 and rng.random() < 0.5
        )
        choose(problem, timer=FakeTimer(), limits=limits)
    for problem, algorithm in run:
        assert transient_bytes(problem, algorithm) - operand_bytes(problem) <= limits.memory
        if problem.direction == "input_gradient" and "channels_last" in algorithm.name:
            assert code_bytes(problem) <= MOST_CODE


TWO_THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait without computing, since there may be fewer free cores than threads."""

SCRIPT = """
import resource, sys, torch
from tzwc.ops.conv import compute, legal_algorithms
from tzwc.autotune.memory import operand_bytes, transient_bytes
from tests.support.memory_samples import samples
torch.set_num_threads(2)
def now(what):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))
for problem, name, algorithm, a, b in samples():
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = now("VmRSS")
    compute(problem, name, a, b)
    print(now("VmHWM") - before <= transient_bytes(problem, algorithm), problem, name)
"""


@pytest.mark.slow(reason="over a hundred calls, each in as much memory as the model allows it")
@pytest.mark.parametrize("isa", ["AVX2", "DEFAULT"])
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no way to ask for the peak of one call")
def test_calls_need_no_more_than_the_model_says(isa: str) -> None:
    environment = os.environ | TWO_THREADS | {"ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) > 100
    assert [line for line in lines if not line.startswith("True")] == []


COMPILE = """
import resource, sys, torch, tzwc
resource.setrlimit(resource.RLIMIT_AS, (12 * 10**9,) * 2)
torch.set_num_threads(2)
taps = int(sys.argv[1])
model = torch.nn.Conv1d(16, 16, taps, padding="same", groups=16)
x = torch.randn(1, 16, taps + 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fast = tzwc.compile(model, backend="eager")
y = fast(x)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = 2 * taps + 2
transform = torch.fft.rfft(model.weight[:, 0].double().flip(-1), size) * torch.fft.rfft(x.double(), size)
want = torch.fft.irfft(transform, size)[..., taps - 1 - (taps - 1) // 2 :][..., : taps + 1] + model.bias[:, None]
torch.testing.assert_close(y.double(), want, rtol=1e-3, atol=1e-4)
print((after - before) * 1024)
"""


@pytest.mark.slow(reason="the module itself is called once, as it is, and takes half a minute with 16,383 taps")
@pytest.mark.parametrize("taps", [1999, 3999, 16383])
def test_a_long_convolution_is_compiled_within_the_bound(taps: int) -> None:
    limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "TZWC_TUNE": "measure", "TZWC_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(taps)],
        env=os.environ | TWO_THREADS | limits,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 2**30


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_channels_last_input_gives_the_same_numbers(direction: str) -> None:
    problem = depthwise(45, 45).with_(direction=direction, dtype=torch.float64)
    a = torch.rand(1, 16, 47, 47, dtype=torch.float64).to(memory_format=torch.channels_last)
    b = torch.rand(1, 16, *problem.out) if direction == "weight_gradient" else torch.rand(16, 1, 45, 45)
    assert code_objection(problem) is not None
    want = compute(problem, "native", a.contiguous(), b.double())
    for name in {"native", "channels_last"} & legal_algorithms(problem)[0].keys():
        torch.testing.assert_close(compute(problem, name, a, b.double()), want)
