"""Stages from the files that a dump wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tzwc.errors import InvalidArgumentError
from tzwc.inspection.stage import Stage
from tzwc.util.paths import as_path, is_file, is_folder, read_whole, why_not

__all__ = ["load_stage", "pairs", "stage_files"]


def load_stage(path: Path) -> Stage:
    """The stage in a ``.json`` file of a dump.

    Raises:
        InvalidArgumentError: there is no such file, or it holds no stage.
    """
    path = as_path(path)
    if not is_file(path):
        raise InvalidArgumentError(f"{str(path)!r} is no file: give a stage of a dump")
    try:
        return Stage.from_json(read_whole(path).decode())
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is not text ({error}): give a stage of a dump") from error
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(
            f"{str(path)!r} cannot be read ({why_not(error)}): give a stage of a dump"
        ) from error


def stage_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The stage files of a dump, in order: by specialisation, then by stage; of one specialisation under ``""``.

    Raises:
        InvalidArgumentError: ``folder`` is no dump.
    """
    if not is_folder(folder):
        raise InvalidArgumentError(f"{str(folder)!r} is no dump: expected a folder that fast.dump or --dump wrote")
    own = {path.stem.partition("_")[2]: path for path in sorted(folder.glob("[0-9][0-9]_*.json"))}
    if own:
        return {"": own}
    found = {inner.name: stage_files(inner)[""] for inner in sorted(folder.glob("*/")) if any(inner.glob("00_*.json"))}
    if not found:
        raise InvalidArgumentError(f"{folder} is no dump: expected a folder that fast.dump or --dump wrote")
    return found


def pairs(first: Path, second: str, third: str | None) -> Iterator[tuple[str, Stage, Stage]]:
    """What ``tzwc diff`` compares: a title, a stage and another one.

    Raises:
        InvalidArgumentError: a file or a stage does not exist.
    """
    if third is not None:
        for name, stages in stage_files(first).items():
            yield name, load_stage(_named(stages, second, first)), load_stage(_named(stages, third, first))
        return
    other = Path(second)
    if is_file(first) or is_file(other):
        yield "", load_stage(first), load_stage(other)
        return
    if not is_folder(other):
        raise InvalidArgumentError(f"{second!r} is no dump; to compare stages of {first}, name two of them")
    before, after = stage_files(first), stage_files(other)
    common = [name for name in before if name in after]
    if not common:
        raise InvalidArgumentError(f"{first} and {second} have no specialisation in common: {[*before]} and {[*after]}")
    for name in common:
        yield name, load_stage(list(before[name].values())[-1]), load_stage(list(after[name].values())[-1])


def _named(stages: dict[str, Path], name: str, folder: Path) -> Path:
    if name not in stages:
        raise InvalidArgumentError(f"{folder} has no stage {name!r}; choose among {', '.join(stages)}")
    return stages[name]
