"""False matches and false non-matches by group of people: is a face model as sure of everyone?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visiongraft.data.groups import SMALL, group_names
from visiongraft.errors import OptionError
from visiongraft.options import is_number
from visiongraft.seeds import mix_seed
from visiongraft.training.evaluation import decode_samples
from visiongraft.training.measuring.evaluation_data import prepare_evaluation
from visiongraft.training.measuring.margins import Estimate

if TYPE_CHECKING:
    from visiongraft.model import TransferModel

DRAWS = 300
SHUFFLES = 199
ENDS = (0.025, 0.975)  # of an interval of 95 %
CHUNK = 512  # images whose similarities to all others are in memory

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class GroupMatches:
    """The errors of one group.

    Attributes:
        name: The group.
        images: Number of its images.
        people: Number of its people.
        small: Whether these are too few to compare the group with others.
        false_match_rate: Fraction of the pairs of two people of the group that are taken for one.
        false_non_match_rate: Fraction of the pairs of one person that are taken for two people.
    """

    name: str
    images: int
    people: int
    small: bool
    false_match_rate: Estimate
    false_non_match_rate: Estimate


@dataclass(frozen=True)
class MatchRates:
    """Error rates by group at one threshold.

    Attributes:
        by: What defines the groups.
        threshold: Similarity from which two images are taken for one person.
        groups: All groups, by name.
        differences: Of either rate the largest difference between groups that are not small.
        chance: Of either rate how often groups of people that are drawn at random differ by as much; ``None`` if fewer
            than two groups can be compared.
    """

    by: str
    threshold: float
    groups: tuple[GroupMatches, ...]
    differences: dict[str, Estimate]
    chance: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return heads and rows of a table by group."""
        rows = []
        for group in self.groups:
            both = (group.false_match_rate, group.false_non_match_rate)
            cells = [
                f"{e.value:.4f}" + ("" if group.small else f" ({e.low:.4f} to {e.high:.4f})")
                for e in both
            ]
            counts = [str(group.images), str(group.people)]
            rows.append([group.name or "(none)", *counts, *cells])
        return [self.by, "images", "people", "false match rate", "false non-match rate"], rows

    def statements(self) -> list[str]:
        """Return what was found, one line each."""
        small = [group.name or "(none)" for group in self.groups if group.small]
        lines = [f"too few people to compare: {', '.join(small)}"] if small else []
        if self.chance is None:
            return [*lines, "fewer than two groups have enough people to be compared"]
        for name, gap in self.differences.items():
            verdict = "can" if self.chance[name] < 0.05 else "cannot"
            lines.append(
                f"largest difference in {name.replace('_', ' ')}: {gap.value:.4f} ({gap.low:.4f} to {gap.high:.4f}); "
                f"random groups of people differ by as much with a probability of {self.chance[name]:.2f}, so that it "
                f"{verdict} be told from chance"
            )
        return lines


def match_rates(
    model: TransferModel,
    data: Any,
    *,
    groups: str | Path | Callable[[str], str],
    threshold: float | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> MatchRates:
    """Measure false matches and false non-matches within each group of people.

    All pairs of images of a group are compared at one threshold. Intervals are by a bootstrap over people, since pairs
    that share a person are not independent.

    Args:
        model: A model of faces.
        data: Images of people who were not in training, in any form that ``evaluate`` takes.
        groups: A file with the columns ``path`` and ``group``, an attribute of the samples, or a function from the
            name of a sample, such as its path, to its group.
        threshold: Similarity from which two images are taken for one person; ``None`` for the model's own.
        seed: Of bootstrap and permutations.
        batch_size: Images per forward pass.

    Raises:
        OptionError: There is no threshold, or all images are in one group.
    """
    task: Any = model.task
    chosen = task.threshold if threshold is None else threshold
    if chosen is None:
        raise OptionError("the model has no threshold of its own; pass one, such as threshold=0.4")
    if not is_number(chosen) or not -1 <= chosen <= 1:
        raise OptionError(f"threshold={chosen!r} is not a similarity in [-1, 1]")
    channels = model.backbone_info.in_channels
    samples = prepare_evaluation(task, data, channels, model.training_images).samples
    names = group_names(samples, groups)
    if len(set(names)) < 2:
        raise OptionError(f"groups: all {len(names)} images are in one group, {names[0]!r}")
    rows: dict[int, NDArray[np.float32]] = {}
    for decoded, _, positions in decode_samples(model.network, samples, batch_size):
        rows.update(zip(positions, decoded["embedding"], strict=True))
    people = [samples.target(i).identity for i in range(len(samples))]
    embeddings = np.stack([rows[i] for i in range(len(samples))])
    by = groups if isinstance(groups, str) else getattr(groups, "__name__", str(groups))
    return compare_groups(embeddings, people, names, float(chosen), by, seed)


def compare_groups(
    embeddings: NDArray[np.float32],
    people: Sequence[str],
    groups: Sequence[str],
    threshold: float,
    by: str = "group",
    seed: int = 0,
) -> MatchRates:
    """Compare the error rates of groups; see ``match_rates``.

    Args:
        embeddings: (N, D), unit vectors.
        people: Name of the person on each image.
        groups: Name of the group of each image.
        threshold: Similarity from which two images are taken for one person.
        by: What defines the groups.
        seed: Of bootstrap and permutations.
    """
    members = sorted({*zip(groups, people, strict=True)})  # a person may be in several groups
    position = {member: i for i, member in enumerate(members)}
    units = np.array([position[member] for member in zip(groups, people, strict=True)])
    pairs = _Pairs.count(embeddings, units, [person for _, person in members], threshold)
    own = np.array([group for group, _ in members], dtype=object)
    names = sorted(set(groups))
    counted = {name: int((own == name).sum()) for name in names}
    compared = [name for name in names if counted[name] >= SMALL]
    generator = np.random.default_rng(mix_seed(seed, "match rates"))
    found = []
    drawn: dict[str, Counts] = {}
    for name in names:
        inside = np.flatnonzero(own == name)
        small = counted[name] < SMALL
        values = pairs.rates(inside, np.ones(len(inside)))
        if not small:
            count = len(inside)
            weights = generator.multinomial(count, [1 / count] * count, DRAWS)
            drawn[name] = np.array([pairs.rates(inside, w.astype(float)) for w in weights])
        ends = np.nanquantile(drawn[name], ENDS, axis=0) if not small else [values, values]
        estimates = [
            Estimate(v, float(low), float(high)) for v, low, high in zip(values, *ends, strict=True)
        ]
        images = sum(group == name for group in groups)
        found.append(GroupMatches(name, images, counted[name], small, *estimates))
    if len(compared) < 2:
        return MatchRates(by, threshold, tuple(found), {}, None)
    differences, chance = _differences(pairs, own, compared, drawn, generator)
    return MatchRates(by, threshold, tuple(found), differences, chance)


RATES = ("false_match_rate", "false_non_match_rate")


@dataclass(frozen=True)
class _Pairs:
    """Pairs of images, counted for each two people.

    Attributes:
        accepted: (P, P), how many pairs are taken for one person.
        possible: (P, P), how many pairs there are; 0 for entries of the same person in several groups.
    """

    accepted: Counts
    possible: Counts

    @classmethod
    def count(
        cls,
        embeddings: NDArray[np.float32],
        units: NDArray[np.int64],
        people: Sequence[str],
        threshold: float,
    ) -> _Pairs:
        order = np.argsort(units, kind="stable")
        vectors, units = embeddings[order].astype(np.float64), units[order]
        sizes = np.bincount(units)
        starts = np.cumsum(sizes) - sizes
        accepted = np.zeros((len(sizes), len(sizes)))
        for begin in range(0, len(vectors), CHUNK):
            rows = slice(begin, begin + CHUNK)
            hits = (vectors[rows] @ vectors.T >= threshold).astype(np.float64)
            hits[np.arange(len(hits)), np.arange(begin, begin + len(hits))] = 0  # with itself
            np.add.at(accepted, units[rows], np.add.reduceat(hits, starts, axis=1))
        possible = np.outer(sizes, sizes).astype(np.float64)
        codes = np.unique(np.asarray(people, dtype=object).astype(str), return_inverse=True)[1]
        same = codes[:, None] == codes[None, :]
        possible[same], accepted[same & ~np.eye(len(sizes), dtype=bool)] = 0, 0
        np.fill_diagonal(possible, sizes * (sizes - 1.0))
        return cls(accepted, possible)

    def rates(self, inside: NDArray[np.int64], weights: Counts) -> tuple[float, float]:
        """Return the rates among some people, each counted so often as its weight says."""
        accepted = self.accepted[np.ix_(inside, inside)]
        possible = self.possible[np.ix_(inside, inside)]
        own_accepted, own = np.diag(accepted) @ weights, np.diag(possible) @ weights
        square = weights**2
        others = weights @ possible @ weights - np.diag(possible) @ square
        hits = weights @ accepted @ weights - np.diag(accepted) @ square
        nothing = float("nan")
        return (
            float(hits / others) if others else nothing,
            float(1 - own_accepted / own) if own else nothing,
        )


def _differences(
    pairs: _Pairs,
    own: Any,
    compared: Sequence[str],
    drawn: dict[str, Counts],
    generator: np.random.Generator,
) -> tuple[dict[str, Estimate], dict[str, float]]:
    """Return the largest differences with intervals, and how often random groups of people differ as much."""
    inside = np.flatnonzero(np.isin(own.astype(str), [str(name) for name in compared]))
    sizes = [int((own == name).sum()) for name in compared]

    def largest(order: NDArray[np.int64]) -> Counts:
        parts = np.split(order, np.cumsum(sizes)[:-1])
        values = np.array([pairs.rates(part, np.ones(len(part))) for part in parts])
        return np.asarray(np.nanmax(values, axis=0) - np.nanmin(values, axis=0))

    measured = largest(np.concatenate([np.flatnonzero(own == name) for name in compared]))
    shuffled = np.array([largest(generator.permutation(inside)) for _ in range(SHUFFLES)])
    together = np.stack([drawn[name] for name in compared])
    spread = np.nanmax(together, axis=0) - np.nanmin(together, axis=0)
    ends = np.nanquantile(spread, ENDS, axis=0)
    differences, chance = {}, {}
    for column, name in enumerate(RATES):
        low, high = (float(end[column]) for end in ends)
        differences[name] = Estimate(float(measured[column]), low, high)
        as_much = int((shuffled[:, column] >= measured[column] - 1e-12).sum())
        chance[name] = (1 + as_much) / (1 + SHUFFLES)
    return differences, chance
