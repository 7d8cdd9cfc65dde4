"""Commands and options that other programs have: the message names those of this one."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from visiongraft.errors import OptionError
from visiongraft.options import OTHER_NAMES

OTHER_COMMANDS = {
    "detect": "predict",
    "finetune": "fit",
    "infer": "predict",
    "inference": "predict",
    "test": "evaluate",
    "train": "fit",
    "val": "evaluate",
    "validate": "evaluate",
}


class Commands(TyperGroup):
    """The commands of the program."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        own = OTHER_COMMANDS.get(args[0])
        if own is not None and self.get_command(ctx, args[0]) is None:
            raise OptionError(f"No such command {args[0]!r}. Did you mean {own!r}?")
        return super().resolve_command(ctx, args)


def what_was_meant(error: Exception) -> str | None:
    """Say what a user meant by an option that a command does not have.

    Args:
        error: What the parser of the command line raised.

    Returns:
        A hint, such as ``"did you mean --learning-rate?"``; ``None`` for other errors, and if nothing is known.
    """
    typed, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if not typed or ctx is None:
        return None
    name = typed.removeprefix("--").replace("-", "_")
    known = {option for each in ctx.command.params for option in each.opts}
    option = f"--{OTHER_NAMES.get(name, '').replace('_', '-')}"
    if option in known:
        return f"did you mean {option}?"
    if not {"--set", "--task"} <= known:
        return None
    from visiongraft.lookup.tasks import place_of_task_option

    return place_of_task_option(name, "--task NAME --set {name}=VALUE") or None
