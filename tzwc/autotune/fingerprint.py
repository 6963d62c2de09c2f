"""What a measured time depends on, apart from the convolution: the machine, its libraries and their settings."""

from __future__ import annotations

import functools
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from tzwc.util.disk_cache import SCHEMA
from tzwc.util.matmul_precision import matmul_precision

__all__ = ["describe", "fingerprint"]

Value = str | int | bool

_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY")


def fingerprint(device: str = "cpu") -> dict[str, Value]:
    """All that seconds measured on ``device`` (a type, such as ``"cuda"``) depend on; JSON-safe.

    Two machines, or two settings of one, with equal fingerprints can use each other's measurements.
    """
    facts: dict[str, Value] = {"schema": SCHEMA, "device": device, "torch": torch.__version__}
    facts |= _cuda() if device == "cuda" else _cpu()
    facts["float32 precision"] = matmul_precision()
    facts["deterministic"] = torch.are_deterministic_algorithms_enabled()
    return facts


def describe(facts: Mapping[str, Value]) -> str:
    """A line for people."""
    what = facts.get("name") or facts.get("cpu") or facts.get("device")
    more = [f"{facts['threads']} threads"] if "threads" in facts else []
    more += [str(facts[name]) for name in ("isa",) if name in facts]
    return ", ".join([str(what), *more, f"torch {facts.get('torch')}"])


def _cpu() -> dict[str, Value]:
    facts: dict[str, Value] = {
        "cpu": _cpu_model(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "onednn": bool(torch.backends.mkldnn.enabled) and torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    }
    limits = {name: os.environ[name] for name in _ISA_LIMITS if name in os.environ}
    return facts | _libraries() | limits


def _cuda() -> dict[str, Value]:
    properties = torch.cuda.get_device_properties()
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "cudnn enabled": bool(torch.backends.cudnn.enabled),
        "cudnn benchmark": bool(torch.backends.cudnn.benchmark),
        "tf32": bool(torch.backends.cudnn.allow_tf32),
    }


@functools.cache
def _cpu_model() -> str:
    """Name, family, model and stepping: the name alone is often the same for every machine of a provider."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return platform.processor() or platform.machine()
    found = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", text, re.MULTILINE))
    parts = [found.get("model name", "") or platform.machine()]
    parts += [f"{key} {found[key]}" for key in ("cpu family", "model", "stepping", "cache size") if key in found]
    return ", ".join(parts)


@functools.cache
def _libraries() -> dict[str, Value]:
    """Versions of MKL and oneDNN, which torch was built with."""
    built = torch.__config__.show()
    patterns = {"mkl": r"Math Kernel Library Version (\S+)", "onednn version": r"MKL-DNN v(\S+)"}
    found = {name: re.search(pattern, built) for name, pattern in patterns.items()}
    return {name: match.group(1) for name, match in found.items() if match}
