"""The process that believes in a GPU: reads one JSON line for each job, answers with one."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tzwc.cross_compile.worker.arithmetic import kernel_operations
from tzwc.cross_compile.worker.binaries import compile_kernel
from tzwc.cross_compile.worker.compilation import compiled
from tzwc.cross_compile.worker.interpreter import kernel_sources, runnable
from tzwc.cross_compile.worker.rebuild import new_mode, rebuild
from tzwc.cross_compile.worker.stand_ins import install
from tzwc.errors import TzwcError
from tzwc.lowering.gpu.target import Target


def _lower(job: dict[str, Any], target: Target, folder: Path) -> dict[str, Any]:
    """Generate code, and compile its kernels if that is wanted."""
    mode = new_mode()
    parts, remarks = rebuild(job, mode, target)
    gradients = frozenset(job["gradients"])
    _, modules = compiled(parts.residual, gradients, job["plain"], mode, lambda *_: _never)
    sources: dict[str, str] = {}
    for module in modules:
        named = _named_apart(module, sources)
        operations = {name: kernel_operations(source) for name, source in named.items()}
        sources |= named
        for launch in module["launches"]:
            if launch["elements"]:
                launch["flops"] = launch["elements"] * operations[launch["kernel"]]
    kernels = []
    for name, source in sources.items():
        binary = compile_kernel(name, source, target, folder) if job["binaries"] else {}
        kernels.append({"name": name, "source": source, **binary})
    kept = [value.node.name for value in parts.program.values]
    return {"modules": modules, "kernels": kernels, "kept": kept, "remarks": [remark.to_dict() for remark in remarks]}


def _named_apart(module: dict[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """The kernels of a module, those named like another one of an earlier module with the module's name in front."""
    found = {}
    for name, source in kernel_sources(module["code"]).items():
        taken = known.get(name, source) != source
        found[f"{module['name']}_{name}" if taken else name] = source
        for launch in module["launches"]:
            if taken and launch["kernel"] == name:
                launch["kernel"] = f"{module['name']}_{name}"
    return found


def _never(_: list[Any]) -> Any:
    raise AssertionError("generated code is not run in the process that compiles it")


def _run(job: dict[str, Any], target: Target, folder: Path) -> dict[str, Any]:
    """Generate code and run it on the tensors of ``tensors.pt``; the answer is in ``results.pt``."""
    mode = new_mode()
    parts, _ = rebuild(job, mode, target)
    given = torch.load(folder / "tensors.pt", weights_only=True)
    values: dict[str, Tensor] = given["values"]
    gradients = sorted(job["gradients"])
    program, _ = compiled(parts.residual, frozenset(gradients), job["plain"], mode, runnable)
    for name in gradients:
        values[name].requires_grad_()
    with torch.no_grad():
        kept = parts.program.evaluate(values, range(len(parts.program.values)))
    names = [node.name for node in parts.residual.graph.nodes if node.op == "placeholder"]
    values.update({f"kept_{index}": value for index, value in enumerate(kept)})
    torch.manual_seed(given["seed"])
    with torch.set_grad_enabled(bool(gradients)):
        outputs = list(program(*(values[name] for name in names)))
    found: dict[str, Tensor] = {}
    if gradients:
        results = [output for output in outputs if isinstance(output, Tensor) and output.requires_grad]
        torch.autograd.backward(results, given["cotangents"] or [torch.ones_like(result) for result in results])
        found = {name: grad for name in gradients if (grad := values[name].grad) is not None}
    torch.save({"outputs": [_plain(o) for o in outputs], "gradients": found}, folder / "results.pt")
    return {}


def _plain(output: Any) -> Any:
    return output.detach() if isinstance(output, Tensor) else output


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["folder"])
    sys.path[:] = [*dict.fromkeys([*sys.path, *request["path"]])]
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    target = Target.parse(job["target"])
    install(target)
    return _lower(job, target, folder) if request["action"] == "lower" else _run(job, target, folder)


def _serve(requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        answer: dict[str, Any]
        try:
            answer = {"result": _answer(json.loads(line))}
        except Exception as error:
            # PyTorch's messages go on for pages; the traceback has all of it.
            said = str(error) if isinstance(error, TzwcError) else f"{type(error).__name__}: {error}"
            answer = {"error": f"{said.partition(chr(10))[0]:.300}", "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # Whatever is printed here must not end up among the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    _serve(sys.stdin, channel)
