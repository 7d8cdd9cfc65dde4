"""Checks of option values, shared by the core and by plugins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeGuard, TypeVar

from visiongraft.errors import OptionError, near_matches

# What other libraries call options of this one, for messages.
OTHER_NAMES = {
    "accumulate_grad_batches": "accumulate",
    "accumulation": "accumulate",
    "amp": "precision",
    "arch": "backbone",
    "base_lr": "learning_rate",
    "batch": "batch_size",
    "bs": "batch_size",
    "conf": "score_threshold",
    "confidence": "score_threshold",
    "early_stopping": "patience",
    "fp16": "precision",
    "gpu": "device",
    "grad_checkpointing": "gradient_checkpointing",
    "gradient_accumulation_steps": "accumulate",
    "image_size": "size",
    "img_size": "size",
    "imgsz": "size",
    "k": "top",
    "lora_alpha": "alpha",
    "lr": "learning_rate",
    "lr0": "learning_rate",
    "lr_max": "learning_rate",
    "max_epochs": "epochs",
    "max_time": "budget",
    "model": "backbone",
    "num_epochs": "epochs",
    "num_workers": "workers",
    "opt": "optimizer",
    "opt_func": "optimizer",
    "output": "out",
    "output_dir": "out",
    "pretrained": "weights",
    "project": "out",
    "r": "rank",
    "rect": "resize",
    "save_dir": "out",
    "target_modules": "targets",
    "threshold": "score_threshold",
    "time": "budget",
    "time_limit": "budget",
    "topk": "top",
    "transform": "augment",
    "transforms": "augment",
    "use_rslora": "rslora",
    "val": "validation",
    "val_split": "validation",
    "valid_pct": "validation",
    "validation_split": "validation",
    "wd": "weight_decay",
}

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def is_number(value: object, finite: bool = True) -> TypeGuard[float]:
    """Check whether a value is a number; booleans are not.

    Args:
        value: Any value.
        finite: Refuse infinities and NaN too.

    Returns:
        Whether it is an ``int`` or a ``float``.

    Examples:
        >>> is_number(0.5), is_number(True), is_number(float("inf")), is_number(10**400)
        (True, False, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not finite or abs(value) <= sys.float_info.max  # integers may be larger


def is_integer(value: object, least: int | None = None) -> TypeGuard[int]:
    """Check whether a value is an integer; booleans are not.

    Args:
        value: Any value.
        least: Smallest integer to accept, if there is one.

    Returns:
        Whether it is an ``int`` of at least ``least``.

    Examples:
        >>> is_integer(3, least=1), is_integer(0, least=1), is_integer(2.0)
        (True, False, False)
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return least is None or value >= least


def nowhere(name: str) -> str:
    """Say nothing of where else an option exists."""
    return ""


def refuse_unknown(
    owner: str,
    names: Iterable[str],
    known: Collection[str],
    elsewhere: Callable[[str], str] = nowhere,
) -> None:
    """Refuse options that do not exist.

    Args:
        owner: What the options belong to, for the message.
        names: Names of the options that were given.
        known: Names of all options that exist.
        elsewhere: Returns what to pass instead for the name of an option of something else; empty if there is none.

    Raises:
        OptionError: One of them does not exist; the message suggests similar names.
    """
    for name in names:
        if name not in known:
            own, place = OTHER_NAMES.get(name), elsewhere(name)
            if own in known:
                hint = f"; did you mean {own!r}?"
            else:
                hint = f"; {place}" if place else near_matches(name, known)
            raise OptionError(f"{owner} has no option {name!r}{hint}")


def checks_keywords(
    function: Callable[Parameters, Result], elsewhere: Callable[[str], str] = nowhere
) -> Callable[Parameters, Result]:
    """Refuse unknown keyword arguments of a function in one line that suggests the right name.

    Args:
        function: Takes no arbitrary keyword arguments.
        elsewhere: As for ``refuse_unknown``.

    Returns:
        The function; it raises ``OptionError`` where Python would raise ``TypeError``.

    Examples:
        >>> @checks_keywords
        ... def train(*, learning_rate=0.1):
        ...     return learning_rate
        >>> train(lr=1)
        Traceback (most recent call last):
        visiongraft.errors.OptionError: train has no option 'lr'; did you mean 'learning_rate'?
    """
    known = signature(function).parameters

    @wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        refuse_unknown(function.__name__, kwargs, known.keys(), elsewhere)
        return function(*args, **kwargs)

    return checked


def check_flag(option: str, value: object) -> None:
    """Check that an option is a boolean.

    Raises:
        OptionError: It is not.
    """
    if not isinstance(value, bool):
        raise OptionError(f"{option}={value!r} is not true or false")


def check_integer(option: str, value: object, least: int) -> None:
    """Check that an option is an integer of at least ``least``.

    Raises:
        OptionError: It is not.
    """
    if not is_integer(value, least):
        raise OptionError(f"{option}={value!r} is not an integer of at least {least}")


def check_fraction(option: str, value: object) -> None:
    """Check that an option is a number in [0, 1).

    Raises:
        OptionError: It is not.
    """
    if not is_number(value) or not 0 <= value < 1:
        raise OptionError(f"{option}={value!r} is not in [0, 1)")


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Check that an option is one of several words.

    Raises:
        OptionError: It is not; the message suggests similar words.
    """
    if value not in choices:
        raise OptionError(f"{option}={value!r} is unknown{near_matches(str(value), choices)}")


def check_class_names(names: object) -> None:
    """Check that the option ``class_names`` is a tuple of distinct names, or empty.

    Raises:
        OptionError: It is not.
    """
    if not isinstance(names, tuple) or not all(isinstance(n, str) and n for n in names):
        raise OptionError(f"class_names={names!r} is not a list of names")
    if len(set(names)) != len(names):
        raise OptionError(f"class_names={names!r} contains a name twice")


def bound_class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the option ``class_names`` of a task that is bound to a dataset.

    Raises:
        OptionError: It is empty.
    """
    if not names:
        raise OptionError("the task has no class names yet; read() and bind() set them")
    return names


def check_class_weights(option: str, weights: object, classes: int) -> None:
    """Check a tuple of weights, one per class.

    Args:
        option: Name of the option, for messages.
        weights: Its value; an empty tuple stands for no weights.
        classes: Number of classes; 0 if it is not known yet.

    Raises:
        OptionError: The weights are not non-negative numbers, are all 0, or not one per class.
    """
    if not isinstance(weights, tuple) or not all(is_number(w) and w >= 0 for w in weights):
        raise OptionError(
            f"{option}={weights!r} is neither 'balanced' nor a list of non-negative numbers"
        )
    if weights and not any(weights):
        raise OptionError(
            f"{option}={weights!r} would train nothing; at least one must be positive"
        )
    if weights and classes and len(weights) != classes:
        raise OptionError(f"{option} has {len(weights)} numbers for {classes} classes")
