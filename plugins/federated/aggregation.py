"""How the server combines what sites send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError, near_matches
from visiongraft.options import is_number, refuse_unknown
from visiongraft.registry.calls import read_call

Values = Mapping[str, NDArray[np.float32]]
Moments = dict[str, NDArray[np.float64]]

METHODS: dict[str, dict[str, float]] = {  # with the defaults of their options
    "fedavg": {},
    "fedprox": {"mu": 0.01},
    "fedadam": {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "median": {},
    "trimmed_mean": {"fraction": 0.2},
}


@dataclass(frozen=True)
class Update:
    """What a site sends after its training.

    Attributes:
        site: Name of the site.
        images: Number of its training images.
        values: The tensors that travel.
    """

    site: str
    images: int
    values: Values


@dataclass(frozen=True)
class Method:
    """A way to combine updates.

    ``fedavg`` averages by the number of images (McMahan et al., 2017), ``fedprox`` too, while sites are pulled
    towards the global values by ``mu`` (Li et al., 2020), ``fedadam`` takes the average change for a
    gradient of Adam (Reddi et al., 2021). ``median`` and ``trimmed_mean`` (Yin et al., 2018), which leaves out a
    ``fraction`` of the sites at either end, bound what single sites can do and ignore numbers of images.

    Attributes:
        name: One of ``METHODS``.
        options: Its options.
    """

    name: str
    options: Mapping[str, float]

    @property
    def mu(self) -> float:
        """How strongly sites are pulled towards the global values."""
        return self.options.get("mu", 0.0)

    @property
    def needs_each(self) -> bool:
        """Whether it needs the values of each site, and not only their mean."""
        return self.name in ("median", "trimmed_mean")

    def combine(
        self, before: Values, updates: Sequence[Update], moments: Moments, buffers: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Combine the updates of a round.

        Args:
            before: The global values that the sites began with.
            updates: At least one, in an order that does not depend on when they arrived.
            moments: Of ``fedadam``, changed in place; empty before the first round.
            buffers: Names of statistics, which are averaged by every method that has moments.

        Returns:
            The new global values.
        """
        combined = {}
        for name, old in before.items():
            stacked = np.stack([update.values[name].astype(np.float64) for update in updates])
            new = self._middle(stacked, [update.images for update in updates])
            if self.name == "fedadam" and name not in buffers:
                new = self._adam(name, old.astype(np.float64), new, moments)
            combined[name] = new.astype(np.float32)
        return combined

    def _middle(self, stacked: NDArray[np.float64], images: Sequence[int]) -> NDArray[np.float64]:
        if self.name == "median":
            return np.asarray(np.median(stacked, axis=0))
        if self.name == "trimmed_mean":
            cut = int(self.options["fraction"] * len(stacked))
            return np.asarray(np.sort(stacked, axis=0)[cut : len(stacked) - cut].mean(axis=0))
        return np.asarray(np.average(stacked, axis=0, weights=images))

    def _adam(
        self, name: str, old: NDArray[np.float64], new: NDArray[np.float64], moments: Moments
    ) -> NDArray[np.float64]:
        beta1, beta2 = self.options["beta1"], self.options["beta2"]
        change = new - old
        zeros = np.zeros_like(old)
        first = beta1 * moments.get(f"first:{name}", zeros) + (1 - beta1) * change
        second = beta2 * moments.get(f"second:{name}", zeros) + (1 - beta2) * change**2
        moments[f"first:{name}"], moments[f"second:{name}"] = first, second
        step = first / (np.sqrt(second) + self.options["tau"])
        return np.asarray(old + self.options["learning_rate"] * step)


def find_method(text: Any) -> Method:
    """Find a method by name, with or without options.

    Raises:
        OptionError: There is none, or an option is unknown or invalid.

    Examples:
        >>> find_method("fedprox(mu=0.1)").options
        {'mu': 0.1}
    """
    name, options = read_call(str(text), "method")
    if name not in METHODS:
        raise OptionError(f"method={name!r} is unknown{near_matches(name, METHODS)}")
    refuse_unknown(f"method {name!r}", options, METHODS[name])
    for option, value in options.items():
        if not is_number(value) or value < 0:
            raise OptionError(f"method {name!r}: {option}={value!r} is not a number of at least 0")
    chosen = {**METHODS[name], **options}
    if chosen.get("fraction", 0) >= 0.5:
        raise OptionError("method 'trimmed_mean': fraction must be below 0.5, or nothing is left")
    return Method(name, chosen)
