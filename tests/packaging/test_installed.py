"""What is built from a checkout, installed elsewhere with what it declares, works there."""

from __future__ import annotations

import re
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from tests.packaging.building import ROOT, build, checkout_files, copy_checkout, environment, run, with_dependencies

_LINKED = ("passes", "models")

_EVERY_MODULE = """
import importlib, pkgutil, sys, tzwc
assert not tzwc.__file__.startswith(sys.argv[1]), tzwc.__file__
for module in pkgutil.walk_packages(tzwc.__path__, "tzwc.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print("missing", module.name, error)
    else:
        print("imported", module.name)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build(source, "wheel", source.parent / "wheel")


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    return build(source, "sdist", source.parent / "sdist")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and what it requires, without extras."""
    made = environment(tmp_path_factory.mktemp("environment"), wheel)
    with_dependencies(made)
    return made


def _unpacked(sdist: Path, to: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(to, filter="data")
    (folder,) = to.iterdir()
    return folder


def _contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    expected = set()
    for name in checkout_files():
        if name.partition("/")[0] in _LINKED:
            expected.add(f"tzwc/{name}")
        elif name.startswith("tzwc/") and name not in {f"tzwc/{link}" for link in _LINKED}:
            expected.add(name)
    assert {name for name in _contents(wheel) if ".dist-info/" not in name} == expected


def test_every_file_of_the_repository_is_in_the_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive if not member.isdir()}
    made = {name for name in names if name in ("PKG-INFO", "setup.cfg") or name.startswith("tzwc.egg-info/")}
    assert names - made == set(checkout_files()) - {"PKG-INFO", "setup.cfg"}


def test_the_sdist_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    again = build(_unpacked(sdist, tmp_path / "unpacked"), "wheel", tmp_path / "wheel")
    assert _contents(again) == _contents(wheel)


@pytest.mark.parametrize("left", ["text", "empty folder", "nothing"])
def test_where_links_cannot_be_made(left: str, wheel: Path, tmp_path: Path) -> None:
    """Python's ``zipfile``, and git on Windows, write a file that says where the link leads; others leave less."""
    without = copy_checkout(tmp_path / "source")
    for name in _LINKED:
        link = without / "tzwc" / name
        link.unlink()
        if left == "text":
            link.write_text(f"../{name}", encoding="utf-8")
        elif left == "empty folder":
            link.mkdir()
    assert _contents(build(without, "wheel", tmp_path / "wheel")) == _contents(wheel)


def test_every_module_can_be_imported_or_names_its_extra(python: Path, tmp_path: Path) -> None:
    lines = run([str(python), "-c", _EVERY_MODULE, str(ROOT)], tmp_path).splitlines()
    missing = [line for line in lines if line.startswith("missing")]
    assert all(re.search(r"pip install 'tzwc\[\w+\]'", line) for line in missing), missing
    assert {line.split()[1] for line in missing} == {"tzwc.lowering.gpu.hyperzzw_dot_kernel"}
    files = [name for name in checkout_files() if name.startswith(("tzwc/", "passes/", "models/"))]
    modules = sum(name.endswith(".py") for name in files)
    assert len([line for line in lines if line.startswith(("missing", "imported"))]) == modules - 1  # tzwc itself


def test_without_extras_the_first_lines_work_and_what_needs_an_extra_says_which(python: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## Ten lines\n\n```python\n(.*?)```", readme, re.DOTALL)
    assert found is not None
    variables = {"TZWC_TUNE": "model", "TZWC_CACHE_DIR": str(tmp_path / "cache")}
    # Lowered without a compiler: what compilers do is tested elsewhere.
    lines = found[1].replace("tzwc.compile(model)", 'tzwc.compile(model, backend="eager")')
    assert "fuse_hyperzzw" in run([str(python), "-c", lines], tmp_path, **variables)
    assert (tmp_path / "out" / "digits").is_dir()
    tzwc = str(python.parent / "tzwc")
    assert "whole graph" in run([tzwc, "compile", "digits", "--backend", "eager"], tmp_path, **variables)
    for command, extra in ((["train", "digits"], "train"), (["lower", "digits", "--target", "cuda:90"], "triton")):
        said = run(["sh", "-c", '"$@" || true', "sh", tzwc, *command], tmp_path, **variables)
        assert f"tzwc[{extra}]" in " ".join(said.split()), said


def test_with_every_extra(python: Path, tmp_path: Path) -> None:
    """Last: what an extra brings stays in the environment."""
    with_dependencies(python, ["demo", "train", "triton", "viewer", "dev"])
    lines = run([str(python), "-c", _EVERY_MODULE, str(ROOT)], tmp_path).splitlines()
    assert not [line for line in lines if line.startswith("missing")]
    variables = {"TZWC_TUNE": "model", "TZWC_CACHE_DIR": str(tmp_path / "cache")}
    tzwc = str(python.parent / "tzwc")
    run([tzwc, "compile", "digits", "--backend", "eager", "--dump", "out"], tmp_path, **variables)
    assert list((tmp_path / "out").rglob("report.html"))
