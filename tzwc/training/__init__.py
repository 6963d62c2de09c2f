"""Train Terminator models, or any classifier: a loop that can be read, stopped and resumed."""

from __future__ import annotations

from tzwc.training.checkpoint import Checkpoint, CheckpointError
from tzwc.training.evaluation import Evaluation, answers, evaluate
from tzwc.training.interruption import Interrupted
from tzwc.training.loop import Trainer
from tzwc.training.recipe import Recipe
from tzwc.training.tasks import TASKS, Task, task

__all__ = [
    "TASKS",
    "Checkpoint",
    "CheckpointError",
    "Evaluation",
    "Interrupted",
    "Recipe",
    "Task",
    "Trainer",
    "answers",
    "evaluate",
    "task",
]
