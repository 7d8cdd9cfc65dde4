"""Predictions that depend on the group of an image, as far as a model has rules for it; without PyTorch."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visiongraft.data.groups import read_groups
from visiongraft.errors import OptionError, name_some

Groups = str | Path | Sequence[str] | Callable[[str], str]

RULES = "group thresholds"  # their entry in the facts of a model, which exported files contain
REMEDY = "choose them: model.group_thresholds(..., save=True), visiongraft group-thresholds --save"

log = logging.getLogger("visiongraft")


@dataclass
class GroupDecisions:
    """Decides predictions by the group of their image.

    Attributes:
        rules: What the model has as ``RULES``: ``rules`` by name of the group, and what its predictions need besides.
        find: Returns the group of an image, given its position and name.
        given: Number of groups, if they were given one for each image.
        unknown: How many images were of each group that has no rule.
    """

    rules: Mapping[str, Any]
    find: Callable[[int, str], str]
    given: int | None = None
    unknown: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(
        cls, groups: Groups | None, facts: Mapping[str, Any], where: str
    ) -> GroupDecisions | None:
        """Read what the user passes.

        Args:
            groups: Names of groups, one for each image; a file with the columns ``path`` and ``group``, whose paths are
                relative to its folder; a function from the name of an image to its group; or ``None``.
            facts: The facts of the model.
            where: The model, for messages.

        Raises:
            OptionError: The model has no rules, or the groups cannot be read.
        """
        if groups is None:
            return None
        rules = facts.get(RULES)
        if not isinstance(rules, Mapping) or not isinstance(rules.get("rules"), Mapping):
            raise OptionError(f"groups: {where} has no thresholds by group; {REMEDY}")
        named = callable(groups) or isinstance(groups, (str, Path))
        return cls(rules, _finder(groups), None if named else len(groups))  # type: ignore[arg-type]

    def decided(self, prediction: Any, position: int, name: str) -> Any:
        """Return the prediction of an image as the rule of its group decides.

        Args:
            prediction: One with a method ``by_group(rules, group, draw)``, which returns such a prediction.
            position: Position of the image.
            name: Its name, by which random decisions are drawn, so that they repeat.

        Raises:
            OptionError: The prediction has no such method, or the group is not known.
        """
        own = getattr(prediction, "by_group", None)
        if not callable(own):
            raise OptionError(
                f"predictions of type {type(prediction).__name__} have no thresholds by group; leave out groups"
            )
        group = self.find(position, name)
        if group not in self.rules["rules"]:
            self.unknown[group] += 1
        return own(self.rules, group, _drawn(name))

    def finish(self, images: int) -> None:
        """Warn of images of groups that have no rule, which were decided as without groups.

        Args:
            images: Number of images that were decided.

        Raises:
            OptionError: There are more groups than images.
        """
        if self.given is not None and self.given > images:
            raise OptionError(f"groups has {self.given} names for {images} images")
        if self.unknown:
            names = name_some([f"{name or '(none)'} ({n})" for name, n in self.unknown.items()])
            log.warning("groups without a threshold of their own, decided by 0.5: %s", names)


def _finder(groups: Groups) -> Callable[[int, str], str]:
    if callable(groups):
        return lambda _, name: str(groups(name))
    if isinstance(groups, (str, Path)):
        stated = read_groups(Path(groups), "groups")
        return lambda _, name: stated.get(Path(name).resolve(), "")
    names = [str(name) for name in groups]

    def by_position(position: int, _: str) -> str:
        if position >= len(names):
            raise OptionError(f"groups has {len(names)} names, and there are more images")
        return names[position]

    return by_position


def _drawn(name: str) -> float:
    """Return a number in [0, 1) that is that of the name on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6]) / 2**48
