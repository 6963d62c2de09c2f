"""A report is short, complete in its counts, and the same in all its forms."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from tests.support.inspection_cases import case
from tzwc.inspection import CachedValueInfo, CacheStatistics, CaptureInfo, Report, SpecialisationInfo
from tzwc.inspection.report.document import WIDTH
from tzwc.inspection.report.grouping import INDEX, group_remarks, merge_similar
from tzwc.ir.remarks import Location, Remark
from tzwc.util import formatting as q


def _remark(layer: int, taps: int) -> Remark:
    return Remark(
        "select_convolution",
        "applied",
        "fft",
        f"conv1d_{layer} in blocks.{layer}.conv has {taps} taps: FFT of 2 × 784 is faster",
        (f"conv1d_{layer}",),
        Location(f"blocks.{layer}.conv", "/home/someone/model.py", 34, "y = self.conv(x)"),
        {"flops_saved": 1e9, "taps": taps, "choice": "fft"},
    )


def _info() -> SpecialisationInfo:
    it = case("layers_eval")
    values = tuple(
        CachedValueInfo(
            f"rfft_{layer}",
            f"c64[1, {layer + 1}, 785]",
            4096,
            2e-3,
            1e6,
            "read at every call",
            (f"blocks.{layer}.weight",),
            Location(f"blocks.{layer}.conv", "model.py", 30),
        )
        for layer in range(12)
    )
    return SpecialisationInfo(
        name="inference",
        key={"grad": "off", "x": "f32[s0, 3, 8, 8]"},
        stages=tuple(it.stages),
        remarks=tuple(_remark(layer, 31 + 2 * layer) for layer in range(12)),
        frontier=values,
        cache=CacheStatistics(evaluations=3, reuses=1_000, invalidations=2, check_seconds=15e-6),
        capture=CaptureInfo("dispatch", 2.3, tuple(f"flag {i} is off" for i in range(9))),
        timings={"lower": 12.0},
        calls=1_003,
        notes=("call under torch.no_grad() to reuse cached values",),
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return Report("Net", (_info(),), notes=("a note on the model",), versions={"torch": "2.13"})


def test_the_text_answers_what_where_why_and_how_much(report: Report) -> None:
    text = str(report)
    flat = " ".join(text.split())
    for expected in (
        "applied 12 × fft: … in … has 31…53 taps: FFT of 2 × 784 is faster",
        "model.py:34 in blocks.0…11.conv | y = self.conv(x)",
        "flops saved 12 GFLOP in total, taps 31…53, choice fft",
        "9 assumptions at each call",
        "and 4 more",
        "12 values, 48.0 KiB",
        "12 × rfft_0…11 c64[1, 1…12, 785] 48.0 KiB 24 ms blocks.0…11.conv",
        "checking that they are fresh takes 15 µs",
        "evaluated 3 times (2 because a parameter or buffer had changed), reused 1,000 times",
        "an estimated 24 ms a call, 24 s so far; 12 MFLOP a call, 12 GFLOP so far",
        "compiled, 1,003 calls so far",
        "call under torch.no_grad()",
        "a note on the model",
    ):
        assert expected in flat, expected
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_dictionary_is_complete_and_json_safe(report: Report) -> None:
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    [info] = data["specialisations"]
    assert len(info["remarks"]) == len(info["frontier"]) == 12
    assert len(info["capture"]["assumptions"]) == 9
    assert info["remarks"][11]["location"]["module_path"] == "blocks.11.conv"
    assert [stage["name"] for stage in info["stages"]] == ["capture", "nothing", "swap_factors"]
    odd = Remark("p", "note", "r", "x", numbers={"ratio": float("inf")})
    assert Report("m", remarks=(odd,)).to_dict()["remarks"][0]["numbers"] == {"ratio": "inf"}


def test_markdown_and_rich_say_the_same(report: Report) -> None:
    console = Console(file=StringIO(), width=200, color_system=None)
    console.print(report)
    assert isinstance(console.file, StringIO)
    for text in (console.file.getvalue(), report.to_markdown().replace("\\", "")):
        for expected in ("12 × fft", "blocks.0…11.conv", "1,003 calls", "swap_factors", "48.0 KiB"):
            assert expected in text
    assert "| stage | operations |" in report.to_markdown()


def test_a_report_on_nothing_says_so() -> None:
    assert "call it once" in str(Report("Net"))
    refused = Remark("capture", "declined", "capture", "forward reads a file")
    text = str(Report("Net", (SpecialisationInfo("eager", level="original module", remarks=(refused,)),)))
    assert "original module" in text
    assert "declined capture: forward reads a file" in text


def test_long_lists_are_cut_with_a_count() -> None:
    letters = "abcdefghijklmnop"
    remarks = tuple(Remark("p", "declined", letter, f"reason {letter}") for letter in letters for _ in range(2))
    text = str(Report("Net", remarks=remarks))
    assert "and 16 more remarks for 8 other reasons" in text


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ((None, None), None),
        ((2e-3, None), "an estimated 30 ms a call"),
        ((None, 1e6), "an estimated 15 MFLOP a call"),
    ],
)
def test_cached_values_of_which_little_is_known(saved: tuple[float | None, float | None], said: str | None) -> None:
    values = tuple(
        CachedValueInfo(f"v{letter}", "f32[4]", 16, *saved, location=Location(letter)) for letter in "abcdefghijklmno"
    )
    flat = " ".join(str(Report("Net", (SpecialisationInfo("eager", frontier=values),))).split())
    assert "15 values, 240 B" in flat
    assert "and 3 more values of 48 B in total" in flat
    assert "They are computed from" not in flat
    assert ("avoided" in flat) is (said is not None)
    assert said is None or said in flat


def test_remarks_are_grouped_by_sentence() -> None:
    remarks = [_remark(0, 31), _remark(1, 31), Remark("select_convolution", "declined", "fft", "complex input")]
    groups = group_remarks([remarks[2], *remarks[:2]])
    assert [group.headline() for group in groups] == [
        "applied 2 × fft: … in … has 31 taps: FFT of 2 × 784 is faster",
        "declined fft: complex input",
    ]


def test_similar_texts_merge() -> None:
    assert merge_similar(["a.0.w", "a.10.w", "b", "a.2.w"], INDEX) == [("a.0…10.w", 3), ("b", 1)]
    assert merge_similar([], INDEX) == []


def test_quantities() -> None:
    assert [q.size(n) for n in (1, 2048, 5 << 30, 1 << 41, 1 << 62, 1 << 80)] == [
        *("1 B", "2.0 KiB", "5.0 GiB", "2.0 TiB", "4,096.0 PiB", "1.1e+09 PiB")
    ]
    assert [q.seconds(0), q.seconds(2.5e-6), q.seconds(0.0123), q.seconds(3), q.seconds(600)] == [
        *("0 s", "2.5 µs", "12.3 ms", "3 s", "10.0 min")
    ]
    assert [q.flops(1e3), q.flops(2.5e6), q.flops(1e9), q.flops(1e15)] == [
        *("1 kFLOP", "2.5 MFLOP", "1 GFLOP", "1e+03 TFLOP")
    ]
    assert [q.count(1, "node"), q.count(2745, "node"), q.count(2, "class", "classes")] == [
        *("1 node", "2,745 nodes", "2 classes")
    ]
