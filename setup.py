"""What pyproject.toml cannot say of the build: how to treat the links ``tzwc/passes`` and ``tzwc/models``.

Both lead to the folders of these names beside ``tzwc``. The sdist carries them as links, like the repository. Where
they could not be made (an archive that was unpacked without links, git on Windows), the folders are packaged from where
they are.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

LINKED = ("models", "passes")


class BuildPy(build_py):
    """Finds the packages behind the links where there are no links."""

    def finalize_options(self) -> None:
        for name in LINKED:
            if Path("tzwc", name, "__init__.py").is_file():
                continue
            folders = {f"tzwc.{name}": name}
            folders |= {f"tzwc.{name}.{inner}": f"{name}/{inner.replace('.', '/')}" for inner in find_packages(name)}
            self.distribution.packages.extend(folders.keys() - set(self.distribution.packages))
            self.distribution.package_dir = {**(self.distribution.package_dir or {}), **folders}
        super().finalize_options()


class Sdist(sdist):
    """Writes the links as links, not as second copies of what they lead to."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        behind = tuple(os.path.join("tzwc", name) for name in LINKED)  # noqa: PTH118
        super().make_release_tree(base_dir, [file for file in files if not file.startswith(behind)])
        for name in LINKED:
            Path(base_dir, "tzwc", name).symlink_to(Path("..", name), target_is_directory=True)


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
