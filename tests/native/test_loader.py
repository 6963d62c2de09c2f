"""How the extension is built, kept, recognised and done without."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tzwc.native
from tests.support.watch_twins import BUILD_SECONDS, Twin
from tzwc.native import build
from tzwc.native.build import BuildError, library_path, load_library
from tzwc.native.loader import Extension, extension
from tzwc.native.python_watch import PythonDictWatch, PythonTensorWatch
from tzwc.util.disk_cache import Store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "native"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def built(native: Twin, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which building takes no time: the compiler is a script that copies what was built before."""
    content = Path(native.module.__file__).read_bytes()[:-32]
    (directory.parent / "library").write_bytes(content)
    fake = directory.parent / "compiler"
    fake.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncat {directory.parent}/library > "$2"\n')
    fake.chmod(0o700)
    monkeypatch.setenv("CXX", str(fake))
    return directory


def test_builds_once_and_then_loads_at_the_first_request(built: Path) -> None:
    first = Extension(built)
    assert first.request() is None  # never waits
    assert first.wait(BUILD_SECONDS), first.reason
    (path,) = built.iterdir()  # and no temporary file
    assert path == library_path(built)
    assert path.stat().st_mode & 0o077 == 0
    assert Extension(built).request() is not None


@pytest.mark.parametrize("damage", ["empty", "cut short", "one bit", "foreign", "garbage"])
def test_a_damaged_library_is_built_again(built: Path, damage: str) -> None:
    assert Extension(built).wait(BUILD_SECONDS)
    path = library_path(built)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    bad = {"empty": b"", "cut short": good[:5000], "one bit": flipped, "foreign": good[:-32], "garbage": b"x" * 999}
    path.unlink()  # as it is mapped into this process
    path.write_bytes(bad[damage])
    path.chmod(0o700)
    with pytest.raises(BuildError, match="damaged"):
        load_library(path)
    again = Extension(built)
    assert again.wait(BUILD_SECONDS), again.reason
    assert path.read_bytes() == good


def test_a_library_that_does_not_load_is_given_up(built: Path) -> None:
    (built.parent / "library").write_bytes(b"no library")
    broken = Extension(built)
    assert not broken.wait(BUILD_SECONDS)
    assert "does not load" in broken.reason


def test_no_compiler(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    without = Extension(directory)
    assert not without.wait(BUILD_SECONDS)
    assert without.reason == "there is no C++ compiler 'no-such-compiler'"


def test_a_compiler_that_fails(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = directory.parent / "compiler"
    fake.write_text("#!/bin/sh\necho 'x.cpp:1: error: no Python.h'; exit 3\n")
    fake.chmod(0o700)
    monkeypatch.setenv("CXX", str(fake))
    failed = Extension(directory)
    assert not failed.wait(BUILD_SECONDS)
    assert failed.reason == f"{fake} failed with status 3: x.cpp:1: error: no Python.h"
    assert list(directory.iterdir()) == []


def test_nothing_is_loaded_from_where_others_can_write(built: Path) -> None:
    assert Extension(built).wait(BUILD_SECONDS)
    path = library_path(built)
    path.chmod(0o722)
    with pytest.raises(BuildError, match="can be written by others"):
        load_library(path)
    built.chmod(0o777)
    refused = Extension(built)
    assert not refused.wait(BUILD_SECONDS)
    assert "can be written by others" in refused.reason


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_nothing_is_loaded_that_belongs_to_others(built: Path) -> None:
    assert Extension(built).wait(BUILD_SECONDS)
    os.chown(built, 12345, -1)
    refused = Extension(built)
    assert not refused.wait(BUILD_SECONDS)
    assert "belongs to user 12345" in refused.reason


def test_it_lies_in_the_directory_for_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It once did not know what ``~`` means, so that there were two directories."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZWC_CACHE_DIR", "~/caches")
    assert build.default_directory() == tmp_path / "caches/native"
    assert Store().folder == tmp_path / "caches/tuning"


def test_what_killed_builds_left_is_removed(built: Path) -> None:
    old, new = built / ".building-old.so", built / ".building-new.so"
    old.touch()
    new.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    assert Extension(built).wait(BUILD_SECONDS)
    assert not old.exists()
    assert new.exists()  # may belong to a build that is under way


@pytest.mark.usefixtures("native")
def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZWC_NATIVE", raising=False)
    assert tzwc.native.native_available()
    assert tzwc.native.native_reason() == ""
    monkeypatch.setenv("TZWC_NATIVE", "0")
    assert not tzwc.native.native_available()
    assert not tzwc.native.ensure_native(0)
    assert tzwc.native.native_reason() == "TZWC_NATIVE=0"
    assert isinstance(tzwc.native.watch_tensors([torch.ones(1)], content=True), PythonTensorWatch)
    assert isinstance(tzwc.native.watch_dicts([{}]), PythonDictWatch)
    monkeypatch.delenv("TZWC_NATIVE")
    assert not isinstance(tzwc.native.watch_tensors([torch.ones(1)], content=True), PythonTensorWatch)
    assert not isinstance(tzwc.native.watch_dicts([{}]), PythonDictWatch)


_SLOW_COMPILER = "#!/bin/sh\necho $$ > {0}/pid\nexec sleep 600\n"
_SCRIPT = """
import os, sys, time, torch
from tzwc import native as watch
assert watch.native_reason() == "no watch has been made yet"  # importing builds nothing
t = torch.ones(1)
assert watch.watch_tensors([t], content=True).changed([t]) == []
assert not watch.watch_dicts([{}]).changed()
assert watch.native_reason() == "being built"
while not os.path.exists(sys.argv[1] + "/pid"):
    time.sleep(0.01)
child = os.fork()
if child == 0:  # has no builder thread: must start over, and its end must not disturb the parent's build
    os.environ["CXX"] = "none"
    sys.exit(not (watch.ensure_native(10) is False and "no C++ compiler" in watch.native_reason()))
assert os.waitpid(child, 0)[1] == 0
os.kill(int(open(sys.argv[1] + "/pid").read()), 0)  # still there
"""


def test_fork_and_exit_during_a_build(tmp_path: Path) -> None:
    fake = tmp_path / "compiler"
    fake.write_text(_SLOW_COMPILER.format(tmp_path))
    fake.chmod(0o700)
    environment = {**os.environ, "CXX": str(fake), "TZWC_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("TZWC_NATIVE", None)
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache/native").iterdir()) == []
    process = Path("/proc", (tmp_path / "pid").read_text().strip(), "cmdline")
    while process.exists() and process.read_bytes():  # empty for a process that is over but not yet reaped
        time.sleep(0.01)


def test_many_builders_at_once(built: Path) -> None:
    builders = [Extension(built) for _ in range(6)]
    for builder in builders:
        builder.request()
    assert all(builder.wait(BUILD_SECONDS) for builder in builders), [b.reason for b in builders]
    assert [p.name for p in built.iterdir()] == [library_path(built).name]


def test_the_process_wide_extension_is_never_left_pending(native: Twin) -> None:
    assert extension.wait(BUILD_SECONDS)
    assert native.module is extension.module


@pytest.mark.parametrize(
    ("platform", "free_threading", "reason"),
    [
        ("darwin", 0, "not built on darwin, only on Linux"),
        ("linux", 1, "not built for Python without a global interpreter lock"),
    ],
)
def test_where_it_is_not_built(
    directory: Path, monkeypatch: pytest.MonkeyPatch, platform: str, free_threading: int, reason: str
) -> None:
    read = sysconfig.get_config_var
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda n: free_threading if n == "Py_GIL_DISABLED" else read(n))
    nowhere = Extension(directory)
    assert not nowhere.wait(BUILD_SECONDS)
    assert nowhere.reason == reason
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "changed", "others", "reason"),
    [
        (0, [0], False, "tensors are laid out in another way"),
        (None, [], False, "a trial gave a wrong answer"),
        (None, [0], True, "a trial gave a wrong answer"),
    ],
)
def test_a_library_that_reads_tensors_wrongly_is_refused(
    address: int | None, changed: list[int], others: bool, reason: str
) -> None:
    answers = iter([[], changed])
    watch = SimpleNamespace(changed=lambda _: next(answers), others=lambda: others)
    module = SimpleNamespace(
        address=lambda tensor: tensor._cdata if address is None else address,
        setup=lambda *_: None,
        TensorWatch=lambda *_: watch,
    )
    with pytest.raises(BuildError, match=reason):
        build._try_out(module)


def test_two_first_requests_start_one_build(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once, started = Extension(directory), []
    monkeypatch.setattr(once, "_start", lambda: started.append(True))
    second = threading.Thread(target=once.request)
    with once._lock:
        second.start()  # sees that nothing has started, and waits for its turn
        while not second.is_alive():
            pass
        time.sleep(0.05)
        once._started = True
    second.join(300)
    assert not second.is_alive()
    assert started == []
