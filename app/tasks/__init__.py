"""How a target is learned: its loss, its metrics, and the way back to the user's own labels and units."""

from app.tasks.base import HeadFactory, Task, TaskConfig, check_columns
from app.tasks.kinds import task_of

__all__ = ["HeadFactory", "Task", "TaskConfig", "check_columns", "task_of"]
