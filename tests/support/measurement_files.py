"""A stored measurement as it should be."""

from __future__ import annotations

import json
from typing import Any

from tzwc.autotune.fingerprint import fingerprint
from tzwc.autotune.workload import problem_to_dict
from tzwc.ops.conv import Problem, legal_algorithms

PROBLEM = Problem(2, 8, 8, 8, (64,), (15,), ((7, 7),))


LEGAL = legal_algorithms(PROBLEM)[0]


KEY = {"machine": fingerprint("cpu"), "problem": problem_to_dict(PROBLEM), "algorithms": sorted(LEGAL)}


CHOICE = {"seconds": {"native": 1e-3, "fft": 2e-3}, "winner": "native", "failed": {}}


def entry(kind: str, key: Any, value: Any) -> str:
    return json.dumps({"format": "tzwc tuning", "schema": 1, "kind": kind, "key": key, "value": value})
