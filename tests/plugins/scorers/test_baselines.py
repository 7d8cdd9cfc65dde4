"""Baselines: numbers that need no features, and accuracies of probes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torchvision

from visiongraft.errors import OptionError
from visiongraft.plugins.backbones.torchvision_source import provenance
from visiongraft.plugins.scorers.baselines import Parameters, PublishedAccuracy
from visiongraft.plugins.scorers.probes import ClassMean, NearestNeighbors, ProbeAccuracy


def test_the_number_of_parameters_is_the_score(make_scored: Any) -> None:
    assert Parameters().score(replace(make_scored(), parameters=123)) == 123


def test_the_accuracy_that_torchvision_publishes_is_the_score(make_scored: Any) -> None:
    published = torchvision.models.get_model_weights("resnet18").DEFAULT
    given = replace(make_scored(), provenance=provenance(published, pretrained=True))
    assert PublishedAccuracy().score(given) == pytest.approx(0.6976)


def test_without_a_published_accuracy_the_backbone_is_refused(make_scored: Any) -> None:
    with pytest.raises(OptionError, match="no published accuracy of 'made' is known here"):
        PublishedAccuracy().score(make_scored())


@pytest.mark.parametrize("scorer", [ProbeAccuracy(), NearestNeighbors(k=3), ClassMean()])
def test_probes_score_their_accuracy(scorer: Any, make_scored: Any) -> None:
    given = make_scored()
    assert 0 <= scorer.score(given) < 0.9
    two = (given.labels > 0).astype(int)
    apart = replace(given, labels=two, features=given.features + 1e3 * (2 * two[:, None] - 1))
    assert scorer.score(apart) == 1
