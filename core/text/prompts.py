"""Vectors of classes: texts about each, encoded and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from visiongraft.errors import OptionError
from visiongraft.options import check_class_names
from visiongraft.text_encoders import TextEncoder, unit_vectors

TEMPLATES = ("a photo of a {}.",)
PLACE = "{}"  # what a template has in place of the class

Classes = Sequence[str] | Mapping[str, str | Sequence[str]]


def class_texts(
    classes: Classes, templates: str | Sequence[str] = TEMPLATES
) -> dict[str, list[str]]:
    """Write the texts about each class.

    Args:
        classes: Names, whose underscores stand for spaces; or by name one word or several to write in
            place of it.
        templates: Texts with ``{}`` in place of the class.

    Returns:
        Texts by name.

    Raises:
        OptionError: There are fewer than two classes, or a template has no ``{}``.

    Examples:
        >>> class_texts({"car": ["car", "taxi"], "cat": "kitten"}, "a {}")
        {'car': ['a car', 'a taxi'], 'cat': ['a kitten']}
    """
    templates = [templates] if isinstance(templates, str) else list(templates)
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            raise OptionError(f"template {template!r} has no {PLACE} in place of the class")
    if not templates:
        raise OptionError("templates are missing; '{}' stands for the name alone")
    words = _words(classes)
    check_class_names(tuple(words))
    if len(words) < 2:
        raise OptionError("zero-shot classification needs at least two classes")
    return {
        name: [template.replace(PLACE, word) for template in templates for word in alternatives]
        for name, alternatives in words.items()
    }


def class_vectors(encoder: TextEncoder, texts: Mapping[str, Sequence[str]]) -> NDArray[np.float64]:
    """Compute one vector for each class: the mean of the unit vectors of its texts, of length 1 again.

    Args:
        encoder: The encoder.
        texts: Texts by class.

    Returns:
        float64 (C, dim).

    Raises:
        OptionError: Two classes have the same vector, or the encoder knows nothing of one.
    """
    means = [unit_vectors(encoder, list(each)).mean(axis=0) for each in texts.values()]
    found = np.stack(means)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    alike = np.argwhere(np.triu(found @ found.T > 1 - 1e-7, 1))
    if len(alike):
        one, other = (list(texts)[i] for i in alike[0])
        raise OptionError(
            f"text encoder {encoder.info.name!r} has the same vector for {one!r} and {other!r}; describe "
            "them in other words"
        )
    return found


def _words(classes: Classes) -> dict[str, list[str]]:
    """Return the words for each class."""
    if isinstance(classes, str) or not isinstance(classes, Sequence | Mapping):
        raise OptionError(f"classes={classes!r} is not a list of class names")
    if not isinstance(classes, Mapping):
        check_class_names(tuple(classes))
        return {name: [name.replace("_", " ")] for name in classes}
    words = {
        name: [given] if isinstance(given, str) else list(given) for name, given in classes.items()
    }
    for name, given in words.items():
        if not given or not all(isinstance(word, str) and word.strip() for word in given):
            raise OptionError(f"class {name!r} has no words: {classes[name]!r}")
    return words
