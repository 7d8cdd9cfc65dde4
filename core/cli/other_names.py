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


def own_option(error: Exception) -> str | None:
    """Return the option that a user meant by one that a command does not have.

    Args:
        error: What the parser of the command line raised.

    Returns:
        The option, such as ``"--learning-rate"``; ``None`` for other errors, and if there is no such option.
    """
    typed, ctx = getattr(error, "option_name", None), getattr(error, "ctx", None)
    name = OTHER_NAMES.get((typed or "").removeprefix("--").replace("-", "_"))
    if name is None or ctx is None:
        return None
    option = f"--{name.replace('_', '-')}"
    return option if any(option in each.opts for each in ctx.command.params) else None
