"""Text encoders of any plugin: looking them up, their vectors, and checks that find faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visiongraft as vg
from visiongraft.cli import main
from visiongraft.errors import OptionError, PluginError
from visiongraft.lookup.text_encoders import load_text_encoder
from visiongraft.registry.manager import PluginManager, using
from visiongraft.testing import CheckError, check_text_encoder
from visiongraft.text_encoders import unit_vectors

Encode = Callable[[Sequence[str]], np.ndarray]


def letters(texts: Sequence[str]) -> np.ndarray:
    return np.array([[text.count(c) for c in "acdeoru"] for text in texts], dtype=np.float32)


class Encoder(vg.TextEncoder):
    function: Encode = staticmethod(letters)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self.function(texts)


class Source(vg.TextEncoderSource):
    prefix = "toy"

    def __init__(self, function: Encode = letters, dim: int = 7) -> None:
        self.encoder = Encoder(vg.TextEncoderInfo("toy/letters", dim))
        self.encoder.function = function

    def names(self) -> Sequence[str]:
        return ["letters"]

    def build(self, name: str, *, pretrained: bool) -> vg.TextEncoder:
        return self.encoder


class Plugin:
    def __init__(self, source: vg.TextEncoderSource) -> None:
        self.source = source

    @vg.hookimpl
    def register_text_encoders(self) -> list[vg.TextEncoderSource]:
        return [self.source]


class Restricted(Source):
    def build(self, name: str, *, pretrained: bool) -> vg.TextEncoder:
        return Encoder(vg.TextEncoderInfo("toy/letters", 7, {"license": "cc-by-nc-4.0"}))


@pytest.fixture
def toy() -> Iterator[vg.TextEncoderSource]:
    source = Source()
    manager = PluginManager(discover=False)
    manager.register(Plugin(source), "toy")
    with using(manager):
        yield source


@pytest.mark.parametrize("name", ["toy/letters", "toy"])
def test_a_third_party_encoder_is_found_by_its_name_or_its_prefix(
    name: str, toy: vg.TextEncoderSource
) -> None:
    assert load_text_encoder(name).info.name == "toy/letters"


def test_an_unknown_name_lists_similar_ones(toy: vg.TextEncoderSource) -> None:
    with pytest.raises(PluginError, match="did you mean 'toy/letters'"):
        load_text_encoder("toy/leters")


def test_unit_vectors_have_length_one() -> None:
    found = unit_vectors(Source().encoder, ["a cat", "a dog"])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)


def test_a_text_without_a_vector_is_named() -> None:
    with pytest.raises(OptionError, match="'toy/letters' has no vector for 'xyz'; describe it"):
        unit_vectors(Source().encoder, ["a cat", "xyz"])


def test_a_license_of_texts_that_forbids_commercial_use_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = PluginManager()
    manager.register(Plugin(Restricted()), "toy")
    images = [(np.full((16, 16, 3), 80 * (i % 3), np.uint8), i % 3) for i in range(12)]
    with using(manager):
        model = vg.zero_shot(
            ["red", "odd", "cue"], "simple_cnn", text="toy", data=images, weights=None, size=16,
            task_options={"class_names": ["red", "odd", "cue"]}, task="classification",
        )  # fmt: skip
    assert model.backbone_info.provenance["text: license"] == "cc-by-nc-4.0"
    assert "cc-by-nc-4.0, forbids commercial use" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(dim=8), r"returned an array of shape \(1, 7\), not \(1, 8\)"),
        (Source(lambda texts: letters(texts) * np.nan), "numbers that are not finite"),
        (Source(lambda texts: 1 / 0), "failed: ZeroDivisionError"),  # type: ignore[arg-type,return-value]
    ],
)
def test_a_faulty_encoder_is_one_line(source: Source, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        unit_vectors(source.encoder, ["a cat"])


def test_a_sound_encoder_passes_all_checks() -> None:
    check_text_encoder(Source())


def centered(texts: Sequence[str]) -> np.ndarray:
    found = letters(texts)
    return found - found.mean(0)


@pytest.mark.parametrize(
    ("source", "check"),
    [
        (Source(dim=8), "vectors_have_the_stated_length"),
        (Source(lambda texts: letters(texts).astype(float)), "vectors_have_the_stated_length"),
        (Source(centered), "a_vector_depends_on_its_text_alone"),
        (Source(lambda texts: np.ones((len(texts), 7), np.float32)), "different_texts_differ"),
    ],
)
def test_a_faulty_encoder_fails_a_check(source: Source, check: str) -> None:
    with pytest.raises(CheckError, match=check):
        check_text_encoder(source)


class Weighted(vg.TextNetwork):
    """Letters with weights."""

    def __init__(self, length: int | None = 40) -> None:
        super().__init__()
        self.weight, self.length = nn.Parameter(torch.ones(7)), length

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        length = self.length or max(map(len, texts))
        codes = [[ord(c) for c in text[:length].ljust(length)] for text in texts]
        return torch.tensor(codes)

    def forward(self, tokens: Tensor) -> Tensor:
        own = torch.tensor([ord(c) for c in "acdeoru"])
        return (tokens[..., None] == own).sum(1).float() * self.weight


class Trainable(Encoder):
    def __init__(self, copy: Callable[[Weighted], vg.TextNetwork], length: int | None = 40) -> None:
        super().__init__(vg.TextEncoderInfo("toy/letters", 7))
        self.network, self.copy = Weighted(length), copy

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        with torch.no_grad():
            return self.network(self.network.tokenize(texts)).numpy()  # type: ignore[no-any-return]

    def trainable(self) -> vg.TextNetwork:
        return self.copy(self.network)


def with_other_weights(network: Weighted) -> Weighted:
    other = deepcopy(network)
    with torch.no_grad():
        other.weight += 0.1
    return other


def with_an_idle_weight(network: Weighted) -> Weighted:
    other = deepcopy(network)
    other.idle = nn.Parameter(torch.ones(1))
    return other


def trained_by(copy: Callable[[Weighted], vg.TextNetwork], length: int | None = 40) -> Source:
    source = Source()
    source.encoder = Trainable(copy, length)
    return source


def test_a_trainable_encoder_passes_all_checks() -> None:
    check_text_encoder(trained_by(deepcopy))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (trained_by(lambda network: network), "the same, as of a copy"),
        (trained_by(with_other_weights), "those of encode"),
        (trained_by(with_an_idle_weight), r"none for \['idle'\]"),
        (trained_by(deepcopy, None), "one length"),
    ],
)
def test_a_faulty_network_fails_the_check(source: Source, message: str) -> None:
    with pytest.raises(CheckError, match=message):
        check_text_encoder(source)


def test_the_command_line_lists_encoders(
    toy: vg.TextEncoderSource, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["text-encoders"]) == 0
    assert capsys.readouterr().out.strip() == "toy/letters"
