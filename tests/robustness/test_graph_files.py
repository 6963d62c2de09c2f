"""A stage from any text is a stage in all its forms, or an ``InvalidArgumentError``; no text becomes a program."""

from __future__ import annotations

import ast
import functools
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.hostile_input import answer, damaged, data, mutated, texts
from tests.support.inspection_cases import case
from tzwc.errors import InvalidArgumentError
from tzwc.inspection import Stage, diff
from tzwc.inspection.load import pairs

CODE = "__hack__"
injections = st.sampled_from(
    [
        f"x\n{CODE}()\n",
        f"x'); {CODE}(); ('",
        f'""" + {CODE}() + """',
        f"{CODE}()",
        f"\\\n{CODE}()",
        f"x\r{CODE}()",
        CODE,
    ]
)
values = st.one_of(data, injections, st.sampled_from(["builtins.eval", "torch.load", "torch.ops.aten.mul.Tensor"]))


@functools.cache
def stages() -> list[dict[str, Any]]:
    """What some passes gave, as data."""
    found = []
    for name in ("layers", "constants", "indexing", "shapes"):
        it = case(name)
        found += [
            json.loads(Stage.to_json(stage)) if stage.root else _with_root(stage, it.root) for stage in it.stages[:2]
        ]
    return found


def _with_root(stage: Stage, root: Any) -> dict[str, Any]:
    from tzwc.inspection import stage_to_dict

    return json.loads(json.dumps(stage_to_dict(stage, root)))


def _pairs(first: Path, second: str, third: str | None) -> list[Any]:
    return list(pairs(first, second, third))


def _shown_of(first: Path, second: str, third: str | None) -> None:
    for _, _, stage in pairs(first, second, third):
        shown(stage)


def shown(stage: Any) -> None:
    """Everything that people do with a stage works, if it is one."""
    if isinstance(stage, InvalidArgumentError):
        return
    assert isinstance(stage, Stage)
    for form in (stage.to_python, stage.to_json, stage.to_dot, stage.to_svg, stage.to_graphml, stage.to_networkx):
        made = answer(form)
        if form == stage.to_python and isinstance(made, str):
            calls = [node for node in ast.walk(ast.parse(made)) if isinstance(node, ast.Call)]
            assert not any(isinstance(node.func, ast.Name) and node.func.id == CODE for node in calls), made
    answer(lambda: diff(stage, Stage.from_dict(stages()[0])))


@settings(max_examples=examples(20))
@given(st.data())
def test_mutated_stages(draw: st.DataObject) -> None:
    valid = draw.draw(st.sampled_from(stages()))
    text = json.dumps(draw.draw(mutated(valid, values)))
    shown(answer(lambda: Stage.from_json(text)))


@settings(max_examples=examples(20))
@given(st.one_of(texts, data.map(json.dumps)))
@example("[" * 100_000)
@example('{"format": "tzwc-graph-1"}')
def test_foreign_texts(text: str) -> None:
    assert isinstance(answer(lambda: Stage.from_json(text)), InvalidArgumentError)


@settings(max_examples=examples(20))
@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    content = json.dumps(draw.draw(st.sampled_from(stages()))).encode()
    folder = tmp_path_factory.mktemp("dump")
    (folder / "00_capture.json").write_bytes(draw.draw(damaged(content)))
    (folder / "01_cse.json").write_bytes(content)
    for arguments in ((folder, "capture", "cse"), (folder / "00_capture.json", str(folder / "01_cse.json"), None)):
        answer(partial(_shown_of, *arguments))


@settings(max_examples=examples(20))
@given(texts, st.one_of(st.none(), texts))
def test_foreign_paths(tmp_path_factory: pytest.TempPathFactory, second: str, third: str | None) -> None:
    for first in (tmp_path_factory.getbasetemp(), Path("/dev/null"), Path(second or ".")):
        made = answer(partial(_pairs, first, second, third))
        assert isinstance(made, InvalidArgumentError)
