"""tzwc explain, verify, bisect, diff, and passes from other packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tzwc.errors import InvalidArgumentError
from tzwc.passes import by_name
from tzwc.passes.registry import PluginError

Invoke = Callable[..., Result]
WRITTEN = ("cli_models:Written", "--input", "5x4")

PLUGIN = """
import torch
from tzwc.passes import Pass

def _run(module, context):
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.matmul.default and context.admits("negate", (node,)):
            node.args = (node.args[1], node.args[0])

GOOD = Pass("good", "Does nothing at all.", lambda module, context: None)
HARM = Pass("harm", "Swaps factors.", _run)
OTHER = Pass("another", "", _run)
NUMBER = 3
"""


@pytest.fixture
def plugins(workspace: Path) -> Callable[[str], None]:
    """Install a distribution with these entry points."""
    (workspace / "cli_plugin.py").write_text(PLUGIN)

    def install(entries: str) -> None:
        info = workspace / "cli_plugin-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cli-plugin\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tzwc.passes]\n{entries}\n")

    sys.modules.pop("cli_plugin", None)
    return install


@pytest.mark.usefixtures("workspace")
def test_explain_filters_remarks(invoke: Invoke) -> None:
    everything = invoke("explain", *WRITTEN, "--all")
    assert everything.exit_code == 0, everything.output
    kept = invoke("explain", *WRITTEN, "--all", "--kind", "applied", "--pass", "hoist_static")
    assert 0 < len(kept.stdout.splitlines()) <= len(everything.stdout.splitlines())
    assert all("hoist_static/keep" in line for line in kept.stdout.splitlines())
    assert not invoke("explain", *WRITTEN, "--all", "--module", "nowhere").stdout
    assert "measured by operators" in invoke("explain", *WRITTEN, "--measure").stdout
    assert "# tzwc report" in invoke("explain", *WRITTEN, "--markdown").stdout
    assert json.loads(invoke("explain", *WRITTEN, "--json", "--rule", "keep").stdout)["specialisations"]
    assert invoke("explain", *WRITTEN, "--kind", "refused").exit_code == 2


@pytest.mark.usefixtures("workspace")
def test_explain_says_when_nothing_was_captured(invoke: Invoke) -> None:
    result = invoke("explain", "cli_models:Stubborn", "--input", "4", "--all")
    assert result.exit_code == 1
    assert "reads a value that depends on the inputs" in result.stdout
    assert "the model could not be captured and runs as it was; the remarks say why" in result.stderr


@pytest.mark.usefixtures("workspace")
def test_verify(invoke: Invoke) -> None:
    result = invoke("verify", *WRITTEN, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["ok"] is True
    assert invoke("verify", *WRITTEN, "--tolerance", "0").exit_code == 1  # float32 is not float64
    assert invoke("verify", *WRITTEN, "--tolerance", "-1").exit_code == 2


def test_bisect_prints_a_script_that_shows_it_again(
    invoke: Invoke, workspace: Path, plugins: Callable[[str], None]
) -> None:
    plugins("harm = cli_plugin:HARM")
    assert invoke("bisect", *WRITTEN).exit_code == 0
    square = ("cli_models:Written", "--input", "4x4", "--passes", "normalize,harm")
    result = invoke("bisect", *square)
    assert result.exit_code == 1, result.output
    assert "negate@" in result.stdout
    assert "sys.exit" in result.stdout
    assert invoke("bisect", *square, "--script", "again.py").exit_code == 1
    done = subprocess.run([sys.executable, "again.py"], capture_output=True, text=True, cwd=workspace, check=False)
    assert done.returncode == 1, done.stderr
    assert "exceeds the tolerance" in done.stdout


def test_diff_of_stages_and_dumps(invoke: Invoke, workspace: Path) -> None:
    invoke("compile", *WRITTEN, "--backend", "eager", "--dump", "a")
    invoke("compile", *WRITTEN, "--backend", "eager", "--dump", "b", "--passes", "normalize")
    stages = invoke("diff", "a", "capture", "normalize")
    assert stages.exit_code == 0, stages.output
    assert "capture → normalize" in stages.stdout
    dumps = invoke("diff", "a", "b")
    assert "hoist_static → normalize" in dumps.stdout
    first, *_, last = sorted((workspace / "a" / "00-inference").glob("0*.json"))
    assert "capture → hoist_static" in invoke("diff", str(first), str(last)).stdout
    for wrong in (("a", "capture", "nothing"), ("a", "capture"), ("nowhere", "b"), (str(first), "nowhere.json")):
        result = invoke("diff", *wrong)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output


def test_passes_of_other_packages_are_found_by_name(invoke: Invoke, plugins: Callable[[str], None]) -> None:
    plugins("good = cli_plugin:GOOD")
    assert by_name("good").summary == "Does nothing at all."
    assert by_name("cli_plugin:HARM").name == "harm"
    listed = json.loads(invoke("passes", "--json").stdout)
    assert listed[-1] == {"name": "good", "summary": "Does nothing at all.", "default": False}
    assert "Does nothing at all" in invoke("passes").stdout
    result = invoke("compile", *WRITTEN, "--backend", "eager", "--passes", "good,cse", "--json")
    assert result.exit_code == 0, result.output
    with pytest.raises(InvalidArgumentError, match="did you mean 'good'"):
        by_name("goood")
    with pytest.raises(InvalidArgumentError, match="is a int"):
        by_name("cli_plugin:NUMBER")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("good = cli_missing:GOOD", "cannot be loaded"),
        ("good = cli_plugin:NUMBER", "expected a tzwc.passes.Pass"),
        ("good = cli_plugin:OTHER", "both names must be the same"),
    ],
)
def test_a_broken_plugin_is_named(invoke: Invoke, plugins: Callable[[str], None], entry: str, message: str) -> None:
    plugins(entry)
    with pytest.raises(PluginError, match=message) as caught:
        by_name("good")
    assert "'cli-plugin'" in str(caught.value)
    result = invoke("passes")
    assert result.exit_code == 0
    assert message in result.stderr
    assert "hoist_static" in result.stdout


def test_two_packages_cannot_announce_one_name(invoke: Invoke, plugins: Callable[[str], None], workspace: Path) -> None:
    plugins("good = cli_plugin:GOOD")
    other = workspace / "cli_other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: cli-other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[tzwc.passes]\ngood = cli_plugin:GOOD\n")
    assert by_name("good").summary == "Does nothing at all."  # both mean the same one
    (other / "entry_points.txt").write_text("[tzwc.passes]\ngood = cli_plugin:HARM\n")
    with pytest.raises(PluginError, match="the pass 'good' is announced by both the package 'cli-"):
        by_name("good")
    result = invoke("passes")
    assert result.exit_code == 0
    assert "is announced by both" in result.stderr
    assert "hoist_static" in result.stdout


def test_a_plugin_cannot_take_the_name_of_a_pass(invoke: Invoke, plugins: Callable[[str], None]) -> None:
    plugins("cse = cli_plugin:GOOD")
    assert "which tzwc has already" in invoke("passes").stderr
    assert by_name("cse").summary.startswith("Compute equal")
