"""The network whose features metrics compare is known to load before anything is trained."""

from __future__ import annotations

import re

import pytest

from visiongraft.data.samples import TargetSamples
from visiongraft.errors import BackboneError
from visiongraft.inputs.samples import InputSamples
from visiongraft.plugins.generation.task import Generation
from visiongraft.plugins.translation.task import Translation
from visiongraft.plugins.translation.unpaired.task import UnpairedTranslation
from visiongraft.task import Task

NONE = TargetSamples(InputSamples([]), ())


@pytest.mark.parametrize("kind", [Generation, Translation, UnpairedTranslation])
def test_an_unknown_feature_network_is_refused_as_the_task_meets_its_data(kind: type[Task]) -> None:
    with pytest.raises(BackboneError, match=re.escape("features='nope': no backbone 'nope'")):
        kind(features="nope").bind(NONE)  # type: ignore[call-arg]
