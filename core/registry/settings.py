"""Process-wide settings of libraries, which no plugin may change for everybody else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from typing import Any, NamedTuple

STREAMS = ("stdout", "stderr")
UNDONE = "for everybody; this was undone"  # ends messages about changes


class Setting(NamedTuple):
    """A process-wide setting of a library.

    Attributes:
        name: As messages write it.
        module: The module that it belongs to.
        read: Return its value, given the module.
        write: Set it, given the module and a value.
        default: Its value where the library has just been imported.
    """

    name: str
    module: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]
    default: Any


def _attribute(module: str, name: str, default: Any) -> Setting:
    return Setting(
        f"{module}.{name}",
        module,
        attrgetter(name),
        _setter(name),
        default,
    )


def _setter(name: str) -> Callable[[Any, Any], object]:
    return lambda module, value: setattr(module, name, value)


SETTINGS = (
    Setting(
        "torch's default dtype",
        "torch",
        lambda torch: str(torch.get_default_dtype()),
        lambda torch, value: torch.set_default_dtype(getattr(torch, value.removeprefix("torch."))),
        "torch.float32",
    ),
    Setting(
        "torch's default device",
        "torch",
        lambda torch: str(torch.get_default_device()),
        lambda torch, value: torch.set_default_device(None if value == "cpu" else value),
        "cpu",
    ),
    Setting(
        "torch's gradient mode",
        "torch",
        lambda torch: torch.is_grad_enabled(),
        lambda torch, value: torch.set_grad_enabled(value),
        True,
    ),
    Setting(
        "torch's float32 matmul precision",
        "torch",
        lambda torch: torch.get_float32_matmul_precision(),
        lambda torch, value: torch.set_float32_matmul_precision(value),
        "highest",
    ),
    Setting(
        "torch's deterministic mode",
        "torch",
        lambda torch: torch.are_deterministic_algorithms_enabled(),
        lambda torch, value: torch.use_deterministic_algorithms(value),
        False,
    ),
    _attribute("torch.backends.cudnn", "enabled", True),
    _attribute("torch.backends.cudnn", "benchmark", False),
    _attribute("torch.backends.cudnn", "deterministic", False),
    Setting(
        "numpy's handling of floating-point errors",
        "numpy",
        lambda numpy: dict(numpy.geterr()),
        lambda numpy, value: numpy.seterr(**value),
        {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    ),
    _attribute("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", False),
    _attribute("PIL.Image", "MAX_IMAGE_PIXELS", 1024 * 1024 * 1024 // 4 // 3),
    Setting(
        "the level up to which logging is disabled",
        "logging",
        lambda logging: logging.root.manager.disable,
        lambda logging, value: logging.disable(value),
        0,
    ),
)


PROCESS = (
    *(Setting(f"sys.{name}", "sys", attrgetter(name), _setter(name), None) for name in STREAMS),
    Setting("the working directory", "os", lambda os: os.getcwd(), lambda os, v: os.chdir(v), None),
    Setting(
        "the recursion limit",
        "sys",
        lambda sys: sys.getrecursionlimit(),
        lambda sys, value: sys.setrecursionlimit(value),
        None,
    ),
)  # whose modules are always imported, so that a default is not needed


@contextmanager
def kept_settings(changes: list[str]) -> Iterator[None]:
    """Undo what a block changes of process-wide settings.

    Args:
        changes: Receives one line per change, after the block.
    """
    settings = (*SETTINGS, *PROCESS)
    before = [_value(setting, setting.default) for setting in settings]
    try:
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            now = _value(setting, value)
            if now != value:
                with suppress(Exception):  # it stays as it is, and is reported all the same
                    setting.write(sys.modules[setting.module], value)
                changes.append(f"changed {setting.name} from {value} to {now}")


def _value(setting: Setting, otherwise: Any) -> Any:
    module = sys.modules.get(setting.module)
    if module is None:
        return otherwise
    try:
        return setting.read(module)
    except Exception:  # a library that is half imported, or another version of it
        return otherwise
