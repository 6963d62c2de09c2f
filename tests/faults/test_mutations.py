"""The faults are those that are meant, and nothing but what is executed gets any."""

from __future__ import annotations

import ast

from tests.faults.mutations import faults_in

SOURCE = '''
"""Counts 1 and 2."""
__all__ = ["f"]
Kind = int | str
LIMIT = 8

def f(x: int = 3, *, strict: bool = True) -> list[int]:
    """Up to 4."""
    assert x > 5
    if x > 1 and not strict:
        raise ValueError(f"{x + 6} is too much: über")
    cache_log.info("%d", x - 7)
    return [abs(x - 1)]
'''


def test_every_kind_of_fault_in_its_place() -> None:
    found = {(fault.kind, fault.before, fault.after) for fault in faults_in("f.py", SOURCE)}
    condition, message = "x > 1 and not strict", 'raise ValueError(f"{x + 6} is too much: über")'
    assert found == {
        ("constant moved by one", "8", "9"),
        ("default changed", "3", "4"),
        ("default changed", "True", "False"),
        ("condition negated", condition, "(not (x > 1 and (not strict)))"),
        ("branch never taken", condition, "False"),
        ("branch always taken", condition, "True"),
        ("and for or", condition, "(x > 1 or not strict)"),
        ("operand removed", condition, "(not strict)"),
        ("operand removed", condition, "(x > 1)"),
        ("comparison changed", "x > 1", "(x >= 1)"),
        ("constant moved by one", "1", "2"),
        ("sign or negation removed", "not strict", "(strict)"),
        ("statement removed", message, "pass"),
        ("statement removed", "return [abs(x - 1)]", "pass"),
        ("result emptied", "[abs(x - 1)]", "[]"),
        ("call removed", "abs(x - 1)", "(x - 1)"),
        ("operator changed", "x - 1", "(x + 1)"),
        ("operands swapped", "x - 1", "(1 - x)"),
    }


def test_every_fault_is_a_program_and_another_one() -> None:
    for fault in faults_in("f.py", SOURCE):
        assert ast.dump(ast.parse(fault.put_into(SOURCE))) != ast.dump(ast.parse(SOURCE))


def test_which_lines_behave_differently() -> None:
    lines = {fault.before: fault.lines for fault in faults_in("f.py", SOURCE)}
    assert lines["8"] == set()  # executed at import
    assert lines["3"] == set(range(8, 14))  # a default: wherever the function is
    assert lines["x > 1"] == {10}
