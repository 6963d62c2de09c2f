"""Compiles the extension and keeps the result in a directory of the user's.

A library carries, behind its last byte, a digest of its contents and of everything it was made from. A file that was
cut short, that is someone else's, or that belongs to another version of anything is so recognised before the dynamic
linker sees it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tzwc.util.paths import cache_directory

__all__ = ["BuildError", "compile_library", "default_directory", "library_path", "load_library"]

_HERE = Path(__file__).parent / "csrc"
_SOURCES = (
    *("_native.cpp", "_native_buffers.h", "_native_dicts.h", "_native_object.h", "_native_products.h"),
    "_native_tensors.h",
)
_TEMPORARY = ".building-"
_STALE_SECONDS = 3600.0
_SHOWN_CHARACTERS = 1000  # of what the compiler said


class BuildError(Exception):
    """The extension cannot be had; the message says why. Never leaves this package."""


def default_directory() -> Path:
    """``native`` in the directory for caches, see :func:`tzwc.util.paths.cache_directory`."""
    return cache_directory() / "native"


def library_path(directory: Path) -> Path:
    """Where the library for this source, torch, Python and platform is or will be."""
    return directory / f"watch-{_key().hex()[:20]}.so"


def load_library(path: Path) -> ModuleType:
    """The extension module from a library made by :func:`compile_library`.

    Raises:
        BuildError: the file is damaged, not the user's, or does not load.
    """
    _check_owner(path.parent)
    _check_owner(path)
    content = path.read_bytes()
    if len(content) < 32 or _digest(content[:-32]) != content[-32:]:
        raise BuildError(f"{path} is damaged")
    try:
        name = "tzwc.native._native"
        spec = spec_from_file_location(name, path, loader=ExtensionFileLoader(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        _try_out(module)
    except Exception as error:
        raise BuildError(f"{path} does not load: {error}") from error
    return module


def compile_library(path: Path, started: Callable[[subprocess.Popen[str], Path], None] = lambda *_: None) -> None:
    """Compile and put the library in place in one step, so that others see all of it or none.

    Args:
        path: where to put it.
        started: called with the compiler's process and the temporary file, for whoever wants to stop it.

    Raises:
        BuildError: there is no compiler, it failed, or the directory is not the user's alone.
    """
    command = _command()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(path.parent)
    _remove_stale(path.parent)
    handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=".so", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with subprocess.Popen(
            [*command, "-o", name],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be ended together with the programs it runs
        ) as process:
            started(process, temporary)
            said = process.communicate()[0]
        if process.returncode:
            raise BuildError(f"{command[0]} failed with status {process.returncode}: {_errors_in(said)}")
        content = temporary.read_bytes()
        temporary.write_bytes(content + _digest(content))
        temporary.chmod(0o700)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flags() -> list[str]:
    root = Path(torch.__file__).parent
    return [
        *("-O2", "-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden", "-w", "-DNDEBUG"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        f"-isystem{root / 'include'}",
        f"-isystem{sysconfig.get_path('include')}",
        f"-L{root / 'lib'}",
    ]


def _command() -> list[str]:
    if not sys.platform.startswith("linux"):
        raise BuildError(f"not built on {sys.platform}, only on Linux")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise BuildError("not built for Python without a global interpreter lock")
    wanted = os.environ.get("CXX") or "g++"
    compiler = shutil.which(wanted)
    if compiler is None:
        raise BuildError(f"there is no C++ compiler {wanted!r}")
    # torch has loaded libc10 already; it is found by name, wherever this environment is moved to.
    return [compiler, *_flags(), str(_HERE / "_native.cpp"), "-lc10"]


def _key() -> bytes:
    versions: tuple[Any, ...] = (
        *(torch.__version__, torch.version.git_version, sys.version, sys.implementation.cache_tag),
        *(platform.machine(), sysconfig.get_config_var("SOABI"), *_flags()),
    )
    digest = hashlib.sha256("\0".join(map(str, versions)).encode())
    for name in _SOURCES:
        digest.update((_HERE / name).read_bytes())
    return digest.digest()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(_key() + content).digest()


def _check_owner(path: Path) -> None:
    """Code is loaded from here into this process: nobody else may be able to put it here."""
    try:
        status = path.stat()
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}") from error
    if status.st_uid != os.getuid():
        raise BuildError(f"{path} belongs to user {status.st_uid}, not to {os.getuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BuildError(f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):o})")


def _remove_stale(directory: Path) -> None:
    """Remove what builds that were killed have left."""
    for left in directory.glob(f"{_TEMPORARY}*"):
        try:
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()
        except OSError:  # another process was faster
            continue


def _errors_in(said: str) -> str:
    errors = [line for line in said.splitlines() if "error" in line]
    return "\n".join(errors or said.splitlines())[:_SHOWN_CHARACTERS] or "it said nothing"


def _try_out(module: Any) -> None:
    """See that the module reads tensors as torch writes them, before anything depends on it."""
    tensor, parameter = torch.zeros(2, 3, device="cpu"), torch.nn.Parameter(torch.zeros(3, device="cpu"))
    for sample in (tensor, parameter):
        if module.address(sample) != sample._cdata:
            raise BuildError("tensors are laid out in another way than was expected")
    module.setup(torch.Tensor, torch.nn.Parameter)
    watch = module.TensorWatch((tensor, parameter), True, True)
    before = watch.changed([tensor, parameter])
    tensor.data[1, 2] = 1.0
    if before != [] or watch.others() or watch.changed([tensor, parameter]) != [0]:
        raise BuildError("a trial gave a wrong answer")
