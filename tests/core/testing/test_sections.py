"""The checks of sections find what they are there for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from visiongraft.pages.parts import Part, Text
from visiongraft.reporting.contract import ReportSection
from visiongraft.testing import SECTION_CHECKS
from visiongraft.testing.report import run_all
from visiongraft.testing.sections import SectionTrial


class Sound(ReportSection):
    name, title = "sound", "Sound"

    def parts(self) -> Iterator[Part]:
        yield Text(f"{len(self.run.training or ())} images")


class Unsafe(Sound):
    def parts(self) -> Iterator[Any]:
        yield "<b>HTML</b>"


class NeedsImages(Sound):
    def parts(self) -> Iterator[Part]:
        yield Text(self.run.training.name(0))  # type: ignore[union-attr]


class Trains(Sound):
    def parts(self) -> Iterator[Part]:
        with torch.no_grad():
            next(self.run.network.head.parameters()).add_(1)
        yield Text("done")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Sound, []),
        (Unsafe, ["a_section_consists_of_parts"]),
        (NeedsImages, ["a_section_does_without_images"]),
        (Trains, ["a_section_changes_no_weight"]),
    ],
)
def test_faulty_sections_fail_the_check_of_their_fault(
    kind: type[ReportSection], found: list[str]
) -> None:
    results = run_all("section", SectionTrial(kind), SECTION_CHECKS)
    assert [result.check for result in results if result.outcome == "failed"] == found
