"""Classifiers of texts: networks of images and text, and maps to the space of a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from PIL import Image

import visiongraft as vg
from tests.plugins.classification.colored import CLASSES, photo
from tests.plugins.text_encoders import tiny_clip
from visiongraft.errors import DataError, OptionError, PluginError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    hf = {kind: tiny_clip.write_hf(root / kind, kind) for kind in ("clip", "siglip")}
    return {**hf, "open_clip": tiny_clip.write_open_clip(root / "tiny")}


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> vg.TransferModel:
    return vg.zero_shot(CLASSES, f"open_clip/local-dir:{folders['open_clip']}")


def images() -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    return [photo(i % 3, generator, 32) for i in range(4)]


def probabilities(model: Any) -> np.ndarray:
    return np.array([list(p.probabilities.values()) for p in model.predict(images())])


def prepared(model: vg.TransferModel) -> torch.Tensor:
    return model.network.preprocess(torch.from_numpy(np.stack(images())))


def test_probabilities_are_those_of_open_clip(
    model: vg.TransferModel, folders: dict[str, Path]
) -> None:
    name = f"local-dir:{folders['open_clip']}"
    network: Any = open_clip.create_model(name).eval()
    tokens = open_clip.get_tokenizer(name)([f"a photo of a {c}." for c in CLASSES])
    with torch.no_grad():
        found = network.encode_image(prepared(model), normalize=True)
        texts = network.encode_text(tokens, normalize=True)
        expected = (network.logit_scale.exp() * found @ texts.T).softmax(1).numpy()
    np.testing.assert_allclose(probabilities(model), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_probabilities_are_those_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    folder = folders[kind]
    options = {"multi_label": True} if kind == "siglip" else {}
    model = vg.zero_shot(CLASSES, f"hf/{folder}", task_options=options)
    network: Any = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 16}
    tokens = tokenizer([f"a photo of a {c}." for c in CLASSES], return_tensors="pt", **padding)
    if kind == "siglip":
        del tokens["attention_mask"]
    with torch.no_grad():
        logits = network(pixel_values=prepared(model), **tokens).logits_per_image
    expected = logits.sigmoid() if kind == "siglip" else logits.softmax(1)
    np.testing.assert_allclose(probabilities(model), expected.numpy(), atol=1e-5)


def test_several_templates_and_words_are_averaged(folders: dict[str, Path]) -> None:
    name = f"open_clip/local-dir:{folders['open_clip']}"
    model = vg.zero_shot({"car": ["car", "taxi"], "cat": "cat"}, name, templates=["a {}", "the {}"])
    encoder = vg.load_text_encoder(name)
    found = encoder.encode(["a car", "a taxi", "the car", "the taxi"])
    mean = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(0)
    row = model.network.head.output.weight[0].detach().numpy()
    np.testing.assert_allclose(row / np.linalg.norm(row), mean / np.linalg.norm(mean), atol=1e-5)
    assert model.facts["zero-shot"]["texts"]["cat"] == ["a cat", "the cat"]


def test_it_is_saved_with_the_source_of_the_texts(model: vg.TransferModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = vg.load(tmp_path / "model")
    np.testing.assert_allclose(probabilities(again), probabilities(model), atol=1e-6)
    assert again.backbone_info.provenance["text: weights"] == "local-dir:tiny"
    assert "local-dir:/" not in (tmp_path / "model" / "config.json").read_text()


def test_the_prefix_of_a_folder_may_be_left_out(
    folders: dict[str, Path], model: vg.TransferModel
) -> None:
    assert vg.zero_shot(CLASSES, folders["clip"]).backbone_info.name == "hf/./clip"
    bare = vg.zero_shot(CLASSES, "ViT-S-32-alt", weights=None, size=32)
    assert bare.facts["zero-shot"]["text encoder"] == "open_clip/ViT-S-32-alt"


def test_labeled_images_set_the_temperature(
    model: vg.TransferModel, folders: dict[str, Path], colors: Path
) -> None:
    name = f"open_clip/local-dir:{folders['open_clip']}"
    calibrated = vg.zero_shot(CLASSES, name, data=colors)
    facts = calibrated.facts["zero-shot"]
    ratio = model.network.head.output.weight / calibrated.network.head.output.weight
    torch.testing.assert_close(ratio, torch.full_like(ratio, facts["temperature"]))
    assert facts["temperature from images"] == 24
    train = colors / "train"
    before, after = model.evaluate(train), calibrated.evaluate(train)
    assert after["accuracy"] == before["accuracy"]
    assert after["images_seen_in_training"] == 24


def test_fine_tuning_starts_from_the_texts_and_goes_back_by_wise_ft(
    model: vg.TransferModel, colors: Path, tmp_path: Path
) -> None:
    tuned = vg.fit(
        colors,
        task="classification",
        start=model,
        schedule="linear_probe",
        epochs=1,
        learning_rate=1e-9,
        out=tmp_path / "run",
        callbacks=(),
    )
    np.testing.assert_allclose(probabilities(tuned), probabilities(model), atol=1e-4)
    between = vg.wise_ft(tmp_path / "run", alpha=0.0)
    np.testing.assert_allclose(probabilities(between), probabilities(model), atol=1e-6)


def test_a_map_to_word_vectors_recognizes_a_class_without_images(
    colors: Path, tmp_path: Path
) -> None:
    """Images of two colors and their mixtures fit the map; the third mixture has none."""
    generator = np.random.default_rng(0)
    words = ["red", "green", "blue", "red red green"]
    for name in words[:3]:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            path = tmp_path / "data" / name / f"{i}.png"
            Image.fromarray(photo(words.index(name), generator)).save(path)
    model = vg.zero_shot(
        words,
        "simple_cnn",
        text="wordllama",
        templates="{}",
        data=tmp_path / "data",
        seen_penalty=0.1,
        size=32,
        weights=None,
    )
    assert model.facts["zero-shot"]["classes with images"] == words[:3]
    assert model.facts["zero-shot"]["classes without images"] == words[3:]
    assert model.evaluate(tmp_path / "data")["accuracy"] > 0.9
    assert model.network.head.output.bias[3] == 0 and (model.network.head.output.bias[:3] < 0).all()


def test_tip_adapter_adds_images_without_training(
    model: vg.TransferModel, colors: Path, tmp_path: Path
) -> None:
    tip = model.tip_adapter(colors)
    facts = tip.facts["Tip-Adapter"]
    assert facts["images"] == 24 and facts["alpha"] > 0
    assert tip.evaluate(colors)["accuracy"] > max(0.9, model.evaluate(colors)["accuracy"])
    unchanged = model.tip_adapter(colors, alpha=0, beta=5.5)
    np.testing.assert_allclose(probabilities(unchanged), probabilities(model), atol=1e-6)
    tip.save(tmp_path / "tip")
    again = vg.load(tmp_path / "tip")
    np.testing.assert_allclose(probabilities(again), probabilities(tip), atol=1e-6)
    with torch.no_grad():
        embedded = tip.network.head.embed(tip.network.backbone(prepared(tip)).pooled)
        cache = tip.network.head.cache
        nearness = torch.exp(-facts["beta"] * (1 - embedded @ cache.keys.T))
        expected = tip.network.head.output(embedded) + facts["alpha"] * nearness @ cache.labels.T
    np.testing.assert_allclose(probabilities(tip), expected.softmax(1), atol=1e-5)
    with pytest.raises(OptionError, match="has images already"):
        again.tip_adapter(colors)


def test_tip_adapter_f_trains_the_embeddings(
    model: vg.TransferModel, colors: Path, tmp_path: Path
) -> None:
    tip = model.tip_adapter(colors, alpha=1, beta=5.5)
    settings: dict[str, Any] = {"schedule": "linear_probe", "epochs": 1, "callbacks": ()}
    tuned = vg.fit(colors, task="classification", start=tip, **settings)
    before, after = (m.network.head.cache.keys.detach() for m in (tip, tuned))
    assert not torch.equal(before, after)


def test_tip_adapter_refuses_other_heads(colors: Path, model: vg.TransferModel) -> None:
    with pytest.raises(OptionError, match="alpha=-1 is not a number of at least 0"):
        model.tip_adapter(colors, alpha=-1)
    plain = vg.fit(
        colors, task="classification", backbone="simple_cnn", weights=None, size=32, epochs=1,
        callbacks=(),
    )  # fmt: skip
    with pytest.raises(OptionError, match="needs a head that compares texts"):
        plain.tip_adapter(colors)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "cat"}, "classes='cat' is not a list of class names"),
        ({"classes": ["cat"]}, "at least two classes"),
        ({"classes": {"cat": [], "dog": "dog"}}, "class 'cat' has no words"),
        ({"templates": "a photo"}, r"template 'a photo' has no \{\} in place of the class"),
        ({"templates": []}, "templates are missing"),
        ({"weights": "file.pth"}, "pass the folder of the network as backbone"),
        ({"text": "wordllama"}, "were not trained together; pass data=PATH"),
        (
            {"backbone": "simple_cnn", "weights": None},
            "has no text encoder of its own; pass text=NAME",
        ),
        ({"backbone": torch.nn.Conv2d(3, 8, 3)}, "the network has no text encoder of its own"),
        ({"task": "detection"}, "does not recognize classes by texts"),
        ({"task_options": {"hidden": 8}}, "hidden=8 has no meaning"),
        ({"task_options": {"multi_label": True}}, "multi_label=True needs an encoder"),
        ({"seen_penalty": "much"}, "seen_penalty='much' is not a number"),
        ({"classes": {"cat": "cat", "dog": "cat"}}, "has the same vector for 'cat' and 'dog'"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    given = {"classes": CLASSES, "backbone": f"open_clip/local-dir:{folders['open_clip']}"}
    with pytest.raises(OptionError, match=message):
        vg.zero_shot(**{**given, **arguments})


def test_data_of_another_class_and_an_unknown_encoder_are_one_line(
    colors: Path, folders: dict[str, Path]
) -> None:
    name = f"open_clip/local-dir:{folders['open_clip']}"
    with pytest.raises(DataError, match="blue thing"):
        vg.zero_shot(CLASSES[:2], name, data=colors)
    with pytest.raises(PluginError, match="no text encoder 'wordlama'"):
        vg.zero_shot(CLASSES, name, text="wordlama")
