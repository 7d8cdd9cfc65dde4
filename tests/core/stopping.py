"""A callback that ends a run like an interruption."""

from __future__ import annotations

from visiongraft.hookspecs import hookimpl


class StopAt:
    """Raises an error at the end of a step.

    Args:
        step: How many steps the process makes before, including this one.
        error: What is raised.
    """

    def __init__(self, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = step, error

    @hookimpl
    def step_ended(self) -> None:
        self.left -= 1
        if not self.left:
            raise self.error
