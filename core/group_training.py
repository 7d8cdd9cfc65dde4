"""How a run trains for groups of images: ``fit(groups="site", group_training="group_dro")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visiongraft.errors import OptionError, near_matches
from visiongraft.options import is_number, refuse_unknown
from visiongraft.registry.calls import read_call

METHODS: dict[str, dict[str, float]] = {  # with the defaults of their options
    "reweight": {},
    "group_dro": {"step_size": 0.01},
}


@dataclass(frozen=True)
class GroupTraining:
    """How groups share the loss.

    ``reweight`` lets the mean loss of each group count alike, however many images it has. ``group_dro`` lets groups
    count more while their loss is higher (Sagawa et al., 2020, "Distributionally Robust Neural Networks for Group
    Shifts").

    Attributes:
        name: One of ``METHODS``.
        step_size: Of ``group_dro``, how fast the weights of groups follow their losses; 0 of ``reweight``.
    """

    name: str
    step_size: float

    @classmethod
    def read(cls, text: str | None) -> GroupTraining | None:
        """Read what users pass.

        Args:
            text: A name with or without options; ``None`` for none.

        Raises:
            OptionError: There is no such way, or an option is unknown or invalid.

        Examples:
            >>> GroupTraining.read("group_dro(step_size=0.1)").step_size
            0.1
        """
        if text is None:
            return None
        name, options = read_call(text, "group_training")
        if name not in METHODS:
            raise OptionError(f"group_training={text!r} is unknown{near_matches(name, METHODS)}")
        refuse_unknown(f"group_training {name!r}", options, METHODS[name])
        for option, value in options.items():
            if not is_number(value) or value <= 0:
                raise OptionError(
                    f"group_training {name!r}: {option}={value!r} is not a positive number"
                )
        chosen: dict[str, Any] = {**METHODS[name], **options}
        return cls(name, float(chosen.get("step_size", 0.0)))
