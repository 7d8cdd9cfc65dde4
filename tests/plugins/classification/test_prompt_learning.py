"""Prompt learning: what is learned, against an independent computation, and what is left as it was."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from safetensors import safe_open
from torch.nn.functional import cross_entropy, normalize

import visiongraft as vg
from tests.plugins.classification.colored import CLASSES
from tests.plugins.text_encoders import tiny_clip
from visiongraft.cli import main
from visiongraft.errors import ArtifactError, OptionError, ReceiptError
from visiongraft.plugins.text_encoders.tower import TowerPrompts

WORDS = "a photo of a"
TEXTS = [f"{WORDS} {name}." for name in CLASSES]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("networks")
    hf = {kind: f"hf/{tiny_clip.write_hf(root / kind, kind)}" for kind in ("clip", "siglip")}
    return {**hf, "open_clip": f"open_clip/local-dir:{tiny_clip.write_open_clip(root / 'tiny')}"}


@pytest.fixture(scope="module")
def model(folders: dict[str, str]) -> vg.TransferModel:
    return vg.zero_shot(CLASSES, folders["open_clip"])


@pytest.fixture(scope="module")
def learned(model: vg.TransferModel, colors: Path, folders: dict[str, str]) -> vg.TransferModel:
    result: vg.TransferModel = model.learn_prompts(
        colors, epochs=20, learning_rate=0.02, text=folders["open_clip"]
    )
    return result


def by_hand(network: Any, texts: list[str], context: torch.Tensor) -> torch.Tensor:
    """Run the text tower of open_clip step by step, as CoOp does."""
    tokens = open_clip.get_tokenizer("ViT-B-32")(texts, context_length=16)
    words = network.token_embedding(tokens)
    begin, rest = words[:, :1], words[:, 1 + len(context) :]
    embedded = torch.cat([begin, context.expand(len(texts), -1, -1), rest], dim=1)
    mask = torch.full((16, 16), -torch.inf).triu(1)
    found = network.transformer(embedded + network.positional_embedding, attn_mask=mask)
    ends = found[torch.arange(len(texts)), tokens.argmax(1)]
    result: torch.Tensor = network.ln_final(ends) @ network.text_projection
    return result


def cross_entropy_of(model: vg.TransferModel, colors: Path) -> float:
    found = [
        prediction.probabilities[name]
        for name in CLASSES
        for prediction in model.predict(sorted((colors / "train" / name).iterdir()))
    ]
    return float(-np.log(found).mean())


def test_vectors_and_gradients_are_those_of_an_independent_computation(
    folders: dict[str, str],
) -> None:
    prompts = vg.load_text_encoder(folders["open_clip"]).prompts(TEXTS, WORDS)
    network: Any = open_clip.create_model(folders["open_clip"].removeprefix("open_clip/")).eval()
    assert isinstance(prompts, vg.TextPrompts) and prompts.initial.shape == (4, 8)
    found, expected = (
        torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        for _ in range(2)
    )
    images = normalize(torch.randn(6, 12, generator=torch.Generator().manual_seed(1)), dim=1)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for context, vectors in (
        (found, prompts(found)),
        (expected, by_hand(network, TEXTS, expected)),
    ):
        cross_entropy(10 * images @ normalize(vectors, dim=1).T, labels).backward()  # type: ignore[no-untyped-call]
        assert context.grad is not None and context.grad.abs().max() > 1e-4
    torch.testing.assert_close(prompts(found), by_hand(network, TEXTS, expected))
    torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
def test_words_of_the_context_are_encoded_as_usual(kind: str, folders: dict[str, str]) -> None:
    encoder = vg.load_text_encoder(folders[kind])
    prompts = encoder.prompts(TEXTS, WORDS)
    assert prompts is not None and len(prompts.initial) == 4
    np.testing.assert_allclose(prompts(prompts.initial), encoder.encode(TEXTS), atol=1e-6)
    assert not np.allclose(prompts(-prompts.initial), encoder.encode(TEXTS), atol=1e-3)
    np.testing.assert_allclose(prompts(prompts.initial), encoder.encode(TEXTS), atol=1e-6)


def test_vectors_of_transformers_are_those_of_its_inputs_embeds(folders: dict[str, str]) -> None:
    folder = folders["clip"].removeprefix("hf/")
    prompts = vg.load_text_encoder(folders["clip"]).prompts(TEXTS, WORDS)
    network: Any = transformers.AutoModel.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        TEXTS, return_tensors="pt"
    ).input_ids
    context = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        words = network.text_model.get_input_embeddings()(tokens)
        words[:, 1:5] = context
        # With `inputs_embeds` the network cannot find the end of a text, so it is found here.
        positions = network.text_model.embeddings.position_embedding.weight[: words.shape[1]]
        hidden = words + positions
        mask = torch.full((words.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        for layer in network.text_model.encoder.layers:
            hidden = layer(hidden, attention_mask=mask)
        ends = (tokens == 49407).int().argmax(1)
        hidden = network.text_model.final_layer_norm(hidden)[torch.arange(3), ends]
        expected = network.text_projection(hidden)
    assert prompts is not None
    torch.testing.assert_close(prompts(context), expected)


def test_images_are_recognized_better_and_only_the_classes_change(
    model: vg.TransferModel, learned: vg.TransferModel, colors: Path
) -> None:
    facts = learned.facts["prompt learning"]
    assert facts["initial words"] == WORDS and facts["images"] == 24
    assert facts["cross-entropy after"] < 0.8 * facts["cross-entropy before"]
    assert facts["frozen tensors of the text encoder"] > 10
    before, after = (cross_entropy_of(m, colors) for m in (model, learned))
    assert before == pytest.approx(facts["cross-entropy before"], abs=1e-4)
    assert after == pytest.approx(facts["cross-entropy after"], abs=1e-4)
    states = (m.network.state_dict() for m in (model, learned))
    (one, other) = states
    assert [n for n in one if not torch.equal(one[n], other[n])] == ["head.output.weight"]
    lengths = [m.network.head.output.weight.norm(dim=1) for m in (model, learned)]
    torch.testing.assert_close(*lengths)


def test_it_is_saved_exported_and_trained_further(
    learned: vg.TransferModel, colors: Path, tmp_path: Path
) -> None:
    learned.save(tmp_path / "model")
    again = vg.load(tmp_path / "model")
    assert again.evaluate(colors / "train")["images_seen_in_training"] == 24
    certificate = again.export(tmp_path / "model.onnx")
    assert certificate.weights["head"]["source"].startswith("open_clip")
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1, "callbacks": ()}
    vg.fit(colors, task="classification", start=again, out=tmp_path / "run", **settings)
    between = vg.wise_ft(tmp_path / "run", alpha=0.0)
    assert cross_entropy_of(between, colors) == pytest.approx(cross_entropy_of(learned, colors))


@pytest.mark.parametrize("context", [None, 3])
def test_other_classes_get_the_learned_words(
    model: vg.TransferModel, colors: Path, folders: dict[str, str], tmp_path: Path,
    context: int | None,
) -> None:  # fmt: skip
    name = folders["open_clip"]
    learned = model.learn_prompts(colors, context=context, epochs=3, learning_rate=0.02, text=name)
    learned.save(tmp_path / "model")
    others = ["robin", "owl"]
    vg.save_classes(tmp_path / "own", vg.load(tmp_path / "model"), CLASSES, text=name)
    vg.save_classes(tmp_path / "others", learned, others, text=name)
    with safe_open(tmp_path / "own", "pt") as file:
        own = file.get_tensor("class_vectors")
    torch.testing.assert_close(own, learned.network.head.output.weight.detach())
    with safe_open(tmp_path / "others", "pt") as file:
        found = file.get_tensor("class_vectors")
    reference = open_clip.create_model(name.partition("/")[2]).eval()
    noted = learned.facts["prompt learning"]
    content = base64.b64decode(noted["learned vectors"])
    vectors = torch.from_numpy(
        np.frombuffer(content, np.float32).reshape(noted["vectors"], 8).copy()
    )
    texts = [f"{' '.join(['x'] * len(vectors))} {each}." for each in others]
    with torch.no_grad():
        expected = normalize(by_hand(reference, texts, vectors), dim=1)
    torch.testing.assert_close(normalize(found, dim=1), expected)
    plain = vg.zero_shot(others, name).network.head.output.weight
    assert not torch.allclose(found, plain, atol=1e-3)


def test_learning_goes_on_with_the_learned_words(
    learned: vg.TransferModel, colors: Path, folders: dict[str, str]
) -> None:
    further = learned.learn_prompts(colors, epochs=1, text=folders["open_clip"])
    before, after = (m.facts["prompt learning"] for m in (learned, further))
    assert after["cross-entropy before"] == pytest.approx(before["cross-entropy after"], abs=1e-5)
    assert after["initial words"] == WORDS


def test_the_nearest_words_of_words_are_these(folders: dict[str, str]) -> None:
    for kind in ("open_clip", "clip"):
        prompts = vg.load_text_encoder(folders[kind]).prompts(TEXTS, WORDS)
        assert prompts is not None
        near = prompts.initial + 1e-4 * torch.randn(prompts.initial.shape)
        assert list(prompts.nearest_words(near)) == WORDS.split()


def test_centered_classes_stay_centered(folders: dict[str, str], colors: Path) -> None:
    """A map to the space of a text tower subtracts the mean of the classes, before and after."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU())
    name = folders["open_clip"]
    mapped = vg.zero_shot(CLASSES, network, text=name, data=colors, size=32)
    facts = mapped.learn_prompts(colors, epochs=1, text=name).facts["prompt learning"]
    assert facts["cross-entropy before"] == pytest.approx(
        cross_entropy_of(mapped, colors), abs=1e-4
    )


def test_the_same_seed_learns_the_same(
    model: vg.TransferModel, colors: Path, folders: dict[str, str]
) -> None:
    weights = [
        model.learn_prompts(
            colors, context=3, epochs=2, seed=seed, text=folders["open_clip"]
        ).network.head.output.weight
        for seed in (1, 1, 2)
    ]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_text_encoder_that_changes_is_noticed(
    model: vg.TransferModel,
    colors: Path,
    folders: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = TowerPrompts.forward

    def drifting(self: TowerPrompts, context: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.network.positional_embedding[0, 0] += 1e-6
        return forward(self, context)

    monkeypatch.setattr(TowerPrompts, "forward", drifting)
    with pytest.raises(ReceiptError, match="the text encoder changed while prompts were learned"):
        model.learn_prompts(colors, epochs=1, text=folders["open_clip"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 0}, "context=0 is not an integer of at least 1"),
        ({"context": 20}, "no room for a class"),
        ({"epochs": 0}, "epochs=0 is not an integer of at least 1"),
        ({"batch_size": 1.5}, "batch_size=1.5 is not an integer of at least 1"),
        ({"learning_rate": -1}, "learning_rate=-1 is not a number above 0"),
        ({"learning_rate": 1e30, "epochs": 2}, "pass a smaller one"),
        ({"text": "wordllama"}, "made with text encoder 'open_clip/local-dir:tiny'"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: dict[str, Any],
    message: str,
    model: vg.TransferModel,
    colors: Path,
    folders: dict[str, str],
) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        model.learn_prompts(colors, **{"text": folders["open_clip"], **options})
    assert "\n" not in str(caught.value)


def test_models_without_a_context_are_refused(
    model: vg.TransferModel, learned: vg.TransferModel, colors: Path, folders: dict[str, str]
) -> None:
    name = folders["open_clip"]
    trained = deepcopy(learned)
    with torch.no_grad():
        trained.network.head.output.weight[0] += 0.1  # type: ignore[union-attr, operator, index]
    with pytest.raises(OptionError, match="the classes of the model are not"):
        trained.learn_prompts(colors, text=name)
    with pytest.raises(OptionError, match="the model was trained since"):
        vg.save_classes("never", trained, ["cat", "dog"], text=name)
    with pytest.raises(OptionError, match="leave out templates"):
        vg.save_classes("never", learned, ["cat", "dog"], text=name, templates="a {}")
    damaged = replace(learned, facts=deepcopy(learned.facts))
    damaged.facts["prompt learning"]["learned vectors"] += "A"
    with pytest.raises(ArtifactError, match="the learned words of the model are damaged"):
        vg.save_classes("never", damaged, ["cat", "dog"], text=name)
    with pytest.raises(OptionError, match="has images in its head"):
        model.tip_adapter(colors).learn_prompts(colors, text=name)
    bare = vg.zero_shot(CLASSES, name, templates="{}")
    with pytest.raises(OptionError, match=r"template '\{\}' has no words before the class; pass"):
        bare.learn_prompts(colors, text=name)
    assert bare.learn_prompts(colors, text=name, context=2, epochs=1).facts["prompt learning"]
    with pytest.raises(OptionError, match="if it is a folder, pass its path: text=NAME"):
        model.learn_prompts(colors)
    joined = vg.zero_shot(CLASSES, name, templates="photo{}")
    with pytest.raises(OptionError, match="does not begin with the tokens of 'photo'"):
        joined.learn_prompts(colors, text=name)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 4), torch.nn.ReLU())
    mapped = vg.zero_shot(CLASSES, network, text="wordllama", data=colors, size=32)
    with pytest.raises(OptionError, match="has no vectors of words that could be learned"):
        mapped.learn_prompts(colors)


def test_the_command_saves_a_model(
    model: vg.TransferModel,
    colors: Path,
    folders: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.save(tmp_path / "model")
    given = ["learn-prompts", str(tmp_path / "model"), str(colors), "--text", folders["open_clip"]]
    assert main([*given, "--epochs", "2", "--out", str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["epochs"] == 2
    assert vg.load(tmp_path / "new").facts["prompt learning"]["initial words"] == WORDS
    assert len(found["nearest words"]) == 4
    assert main([*given, "--context", "99", "--out", str(tmp_path / "other")]) == 2
    assert "no room for a class" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
