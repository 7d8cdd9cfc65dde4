"""What a user asks of differential privacy: ``fit(privacy=Privacy(epsilon=3, delta=1e-5))``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from visiongraft.errors import OptionError
from visiongraft.options import check_choice, check_integer, is_number, refuse_unknown

ACCOUNTANTS = ("prv", "rdp")
LARGEST = 200  # epsilon; accountants take ever longer for more
FORM = "such as 'epsilon=3, delta=1e-5'"


@dataclass(frozen=True)
class Privacy:
    """Differential privacy of a run by DP-SGD (Abadi et al., 2016, "Deep Learning with Differential Privacy").

    Any single training image can change the probability of any trained model by at most a factor of
    exp(``epsilon``), but for cases of probability ``delta``. Images of other datasets, such as validation
    images, are not protected.

    Attributes:
        epsilon: Privacy budget of the whole run, above 0 and at most 200; smaller is more private.
        delta: Probability of a failure, in (0, 1); well below 1 / number of training images.
        max_grad_norm: Norm to which the gradient of each image is clipped, above 0. The noise is
            proportional to it.
        accountant: What bounds the budget that was spent: ``"prv"`` (Gopi et al., 2021, "Numerical
            Composition of Differential Privacy"), or the looser ``"rdp"`` (Mironov, 2017, "Renyi Differential
            Privacy").
        noise_seed: Seed of noise and sampling, for experiments: whoever knows it can remove the noise.
            ``None`` draws a secret one.

    Raises:
        OptionError: A value is invalid.

    Examples:
        >>> Privacy(epsilon=3, delta=1e-5).max_grad_norm
        1.0
    """

    epsilon: float
    delta: float
    max_grad_norm: float = 1.0
    accountant: Literal["prv", "rdp"] = "prv"
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("epsilon", "max_grad_norm"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise OptionError(f"privacy: {name}={value!r} is not a positive number")
        if self.epsilon > LARGEST:
            raise OptionError(
                f"privacy: epsilon={self.epsilon:g} promises nothing, as an image may change probabilities by a factor of "
                f"exp({self.epsilon:g}); take {LARGEST} at most, or omit privacy"
            )
        if not is_number(self.delta) or not 0 < self.delta < 1:
            raise OptionError(f"privacy: delta={self.delta!r} is not in (0, 1)")
        check_choice("privacy: accountant", self.accountant, ACCOUNTANTS)
        if self.noise_seed is not None:
            check_integer("privacy: noise_seed", self.noise_seed, least=0)

    @classmethod
    def read(cls, value: Any) -> Privacy | None:
        """Read what users pass.

        Args:
            value: ``None``, an object of this class, its options by name, or text such as
                ``"epsilon=3, delta=1e-5"``.

        Returns:
            The object; ``None`` for ``None``.

        Raises:
            OptionError: It is something else, or an option is invalid.

        Examples:
            >>> Privacy.read("epsilon=3, delta=1e-5").delta
            1e-05
        """
        if value is None or isinstance(value, Privacy):
            return value
        options = _parse(value) if isinstance(value, str) else value
        if not isinstance(options, Mapping):
            raise OptionError(f"privacy={value!r} is not a Privacy, nor text {FORM}")
        refuse_unknown("privacy", map(str, options), [field.name for field in fields(cls)])
        for name in ("epsilon", "delta"):
            if name not in options:
                raise OptionError(f"privacy needs {name}; pass both, {FORM}")
        return cls(**options)

    def to_json(self) -> dict[str, Any]:
        """Return the options by name, as JSON values."""
        return asdict(self)


def _parse(text: str) -> dict[str, Any]:
    """Parse options as in a call; nothing is evaluated."""
    try:
        call = ast.parse(f"privacy({text})", mode="eval").body
        if isinstance(call, ast.Call) and not call.args:
            return {
                str(k.arg): k.value.id
                if isinstance(k.value, ast.Name)
                else ast.literal_eval(k.value)
                for k in call.keywords
            }
    except (SyntaxError, ValueError):
        pass
    raise OptionError(f"privacy={text!r} is not options by name, {FORM}")
