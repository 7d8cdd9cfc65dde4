"""The linear classifier from which training starts."""

from __future__ import annotations

from typing import Any

import numpy as np

from visiongraft.plugins.classification.closed_form import LinearClassifier, linear_classifier


def clouds(count: int, apart: float, seed: int = 0) -> tuple[Any, Any]:
    """Draw samples of three classes in 20 dimensions, each around its own center."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(3, 20))
    labels = np.arange(count) % 3
    return apart * centers[labels] + random.normal(size=(count, 20)), labels


def probabilities(layer: LinearClassifier, features: Any) -> Any:
    logits = features @ layer.weight.T + layer.bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def test_it_classifies_new_samples() -> None:
    layer = linear_classifier(*clouds(60, 1.0), 3)
    features, labels = clouds(600, 1.0, seed=1)
    assert (probabilities(layer, features).argmax(1) == labels).mean() > 0.9


def test_it_is_as_certain_as_it_is_right() -> None:
    for apart in (0.2, 0.5, 1.0):
        layer = linear_classifier(*clouds(300, apart), 3)
        features, labels = clouds(3000, apart, seed=1)
        found = probabilities(layer, features)
        accuracy = (found.argmax(1) == labels).mean()
        assert abs(found.max(1).mean() - accuracy) < 0.06, apart


def test_a_limit_makes_it_less_certain_and_changes_no_prediction() -> None:
    features, labels = clouds(60, 1.0)
    free, limited = (
        linear_classifier(features, labels, 3),
        linear_classifier(features, labels, 3, 2.0),
    )
    assert free.factor > 2.0
    assert limited.factor == 2.0
    np.testing.assert_allclose(limited.weight * free.factor / 2.0, free.weight)
    assert linear_classifier(features, labels, 3, 1000.0).factor == free.factor
    assert (
        probabilities(limited, features).argmax(1) == probabilities(free, features).argmax(1)
    ).all()


def test_few_correct_predictions_do_not_make_it_certain() -> None:
    features, labels = clouds(9, 5.0)
    assert probabilities(linear_classifier(features, labels, 3), features).max() < 0.97


def test_a_class_without_images_is_improbable() -> None:
    features, labels = clouds(30, 2.0)
    found = probabilities(linear_classifier(features, labels, 4), features)
    assert (found[:, 3] < 0.2).all()


def test_features_that_tell_nothing_give_the_frequencies_of_classes() -> None:
    layer = linear_classifier(np.ones((8, 5)), np.array([0, 0, 0, 0, 0, 0, 1, 1]), 2)
    assert probabilities(layer, np.ones((1, 5)))[0, 0] > 0.5


def test_its_accuracy_is_that_of_fits_without_an_image() -> None:
    features, labels = clouds(30, 0.4)
    rights = []
    for left_out in range(30):
        kept = np.arange(30) != left_out
        layer = linear_classifier(features[kept], labels[kept], 3)
        found = features[left_out] @ layer.weight.T + layer.bias
        rights.append(found.argmax() == labels[left_out])
    assert abs(linear_classifier(features, labels, 3).accuracy - np.mean(rights)) < 0.1


def test_its_accuracy_counts_each_class_alike() -> None:
    labels = np.array([0] * 18 + [1, 1])
    random = np.random.default_rng(0)
    assert linear_classifier(random.normal(size=(20, 3)), labels, 2).accuracy == 0.5


def test_its_accuracy_leaves_out_classes_of_a_single_image() -> None:
    features, labels = clouds(30, 5.0)
    one, other = np.append(features, features[:1], axis=0), np.append(labels, 3)
    assert (
        linear_classifier(one, other, 4).accuracy == linear_classifier(features, labels, 3).accuracy
    )


def test_its_accuracy_is_not_known_if_each_class_has_a_single_image() -> None:
    features, labels = clouds(3, 5.0)
    assert linear_classifier(features, labels, 3).accuracy is None
