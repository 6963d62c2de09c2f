"""Build the distributions, and make environments that hold what was declared and nothing else. No network is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ROOT", "build", "checkout_files", "copy_checkout", "environment", "project", "run", "with_dependencies"]

ROOT = Path(__file__).parents[2]
_LEFT_OUT = {".git", ".venv", "build", "dist", "out", "__pycache__", "tzwc.egg-info", ".hypothesis", ".coverage"}


def project() -> dict[str, object]:
    """The table ``project`` of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def checkout_files() -> list[str]:
    """What the repository holds, as git says; of an unpacked sdist, everything in it. Links are files."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, text=True, check=True, capture_output=True).stdout.split("\n")
        return sorted(name for name in listed if name and os.path.lexists(ROOT / name))
    found: list[str] = []
    for folder, names, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        names[:] = [n for n in names if n not in _LEFT_OUT and n not in links and not n.endswith("_cache")]
        kept = (name for name in [*files, *links] if not name.startswith(".coverage") and name not in _LEFT_OUT)
        found += [str(here / name) for name in kept]
    return sorted(found)


def copy_checkout(to: Path) -> Path:
    """A copy without what builds and tests leave behind."""
    for name in checkout_files():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name, follow_symlinks=False)
    return to


def build(source: Path, kind: str, to: Path) -> Path:
    """Build the ``wheel`` or ``sdist`` of ``source``, by its backend alone; a warning is an error."""
    to.mkdir(parents=True, exist_ok=True)
    program = f"import sys, setuptools.build_meta as b; b.build_{kind}(sys.argv[1])"
    done = run([sys.executable, "-W", "error", "-c", program, str(to)], source)
    told = [line for line in done.splitlines() if "warning" in line.lower() and "byte-compiling" not in line]
    assert not told, told
    (built,) = to.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def run(command: Iterable[str], where: Path, **variables: str) -> str:
    """Run a command without Python's settings of this process; returns all that it printed, and fails if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        list(command), cwd=where, env={**kept, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def environment(folder: Path, wheel: Path) -> Path:
    """A new environment with ``wheel`` alone; returns its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-index", "--no-deps", str(wheel)], folder)
    return python


def with_dependencies(python: Path, extras: Iterable[str] = ()) -> None:
    """Let the environment see what tzwc requires with these extras, of what is installed here, and nothing else."""
    scheme = sysconfig.get_path("purelib", "venv", {"base": str(python.parents[1])})
    stated = project()
    optional = stated["optional-dependencies"]
    assert isinstance(optional, dict)
    requirements = [*stated["dependencies"], *(line for extra in extras for line in optional[extra])]  # type: ignore[misc]
    for name in _closure(requirements):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            source, link = Path(str(distribution(name).locate_file(top))), Path(scheme, top)
            if source.suffix != ".pth" and not link.exists():
                link.symlink_to(source)


def _closure(requirements: Iterable[str]) -> Iterator[str]:
    stated = project()["optional-dependencies"]
    assert isinstance(stated, dict)
    waiting = [(Requirement(line), "") for line in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == "tzwc":
            waiting += [(Requirement(line), "") for name in requirement.extras for line in stated[name]]
            continue
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            continue  # of a platform's own packages, which a build of PyTorch for CPUs does not need
        if not seen & {(requirement.name, "")}:
            yield requirement.name
        for wanted in {"", *requirement.extras}:
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                waiting += [(Requirement(line), wanted) for line in found.requires or ()]
