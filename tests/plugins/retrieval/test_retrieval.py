"""Images and captions in one space: reading, loss, metrics, training, embeddings and search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visiongraft as vg
from tests.plugins.text_encoders import tiny_clip
from visiongraft.cli import main
from visiongraft.errors import DataError, OptionError
from visiongraft.plugins.retrieval.captions import Captions
from visiongraft.plugins.retrieval.example import write_table
from visiongraft.plugins.retrieval.head import ContrastiveLoss
from visiongraft.plugins.retrieval.metrics import RetrievalMetrics
from visiongraft.plugins.retrieval.task import Retrieval
from visiongraft.testing import TASK_CHECKS, TaskTrial
from visiongraft.testing.report import Check


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("captions"), 24, 0)


@pytest.fixture(scope="module")
def model(table: Path, tmp_path_factory: pytest.TempPathFactory) -> vg.TransferModel:
    return vg.fit(
        table, backbone="simple_cnn", weights=None, size=32, schedule="full", epochs=12,
        learning_rate=3e-3, batch_size=8, out=tmp_path_factory.mktemp("run") / "run", callbacks=(),
    )  # fmt: skip


# ---- data ----


def test_rows_of_one_image_are_its_captions(table: Path) -> None:
    samples = Retrieval().read_evaluation(table).samples
    assert len(samples) == 24
    first, second = samples.target(0), samples.target(1)
    assert first.vectors.shape == (2, 256) and second.vectors.shape == (1, 256)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, atol=1e-6)
    assert samples.target(4).ids[0] == first.ids[0]  # the same caption


def test_pairs_in_memory_and_splits_in_a_column_are_read(table: Path, tmp_path: Path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    splits = Retrieval().read([(image, "a cat"), (image, ["a dog", "a puppy"])], validation=0.5)
    assert len(splits.train) == len(splits.validation) == 1
    lines = table.read_text().splitlines()
    rows = [f"{line},{'val' if i % 2 else 'train'}" for i, line in enumerate(lines[1:])]
    (table.parent / "split.csv").write_text("\n".join(["path,caption,split", *rows]))
    splits = Retrieval().read(table.parent / "split.csv")
    assert splits.facts["validation from"] == "the dataset's validation split"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,caption\n000.png,\n", "row 2: caption is empty"),
        ("path,label\n000.png,cat\n", "has no column 'caption'"),
        ("path,caption\nnothing.png,cat\n", "none of its 1 images exists"),
        ("path,caption,split\n000.png,cat,middle\n", "split 'middle' is none of train"),
    ],
)
def test_a_malformed_table_is_one_line(table: Path, text: str, message: str) -> None:
    path = table.parent / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Retrieval().read(path)


def test_only_tables_with_captions_are_claimed(table: Path) -> None:
    assert Retrieval().claims(table)
    assert not Retrieval().claims(table.parent)


def test_a_text_that_is_no_caption_is_one_line() -> None:
    with pytest.raises(DataError, match="is neither a caption nor several captions"):
        Retrieval().read([(np.zeros((8, 8, 3), np.uint8), 3)])


# ---- loss and metrics ----


def captions(*ids: tuple[int, ...], dim: int = 6) -> list[Captions]:
    vectors = np.eye(dim, dtype=np.float32)
    return [Captions(np.array(own), vectors[list(own)]) for own in ids]


def test_the_loss_is_clips_for_pairs() -> None:
    targets = Retrieval().collate(captions((0,), (1,), (2,)))
    outputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.normalize(outputs, dim=1) @ targets["vectors"].T / 0.07
    labels = torch.arange(3)
    entropy = torch.nn.functional.cross_entropy
    expected = (entropy(logits, labels) + entropy(logits.T, labels)) / 2
    found = ContrastiveLoss(0.07)(outputs, targets)["contrastive"]
    torch.testing.assert_close(found, expected)


def test_equal_captions_of_other_images_are_no_negatives() -> None:
    targets = Retrieval().collate(captions((0,), (0,), (1,)))
    outputs = torch.eye(6)[[0, 0, 1]]
    assert ContrastiveLoss(0.01)(outputs, targets)["contrastive"] < torch.log(torch.tensor(2.1))
    wrong = torch.eye(6)[[0, 1, 1]]
    assert ContrastiveLoss(0.01)(wrong, targets)["contrastive"] > 5


def test_recall_counts_any_own_caption_and_puts_ties_last() -> None:
    metrics = RetrievalMetrics()
    targets = Retrieval().collate(captions((0, 3), (1,), (2,)))
    embedding = np.eye(6, dtype=np.float32)[[3, 1, 1]]  # the last one is nearest to caption 1
    metrics.update({"embedding": embedding}, targets)
    found = metrics.compute()
    assert found["image_to_text_recall_at_1"] == pytest.approx(2 / 3)
    # Of four captions 3 finds its image and 1 ties with a wrong one; 0 and 2 are equally far from all.
    assert found["text_to_image_recall_at_1"] == pytest.approx(1 / 4)
    assert found["text_to_image_recall_at_5"] == 1
    assert found["different_captions"] == 4


def test_metrics_do_not_depend_on_batches() -> None:
    own = captions((0,), (1, 4), (2,), (0,))
    embedding = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    whole, parts = RetrievalMetrics(), RetrievalMetrics()
    whole.update({"embedding": embedding}, Retrieval().collate(own))
    for part in (slice(0, 1), slice(1, 4)):
        parts.update({"embedding": embedding[part]}, Retrieval().collate(own[part]))
    assert whole.compute() == parts.compute()


# ---- models ----


def test_training_learns_to_find_colors(model: vg.TransferModel, table: Path) -> None:
    assert model.task.name == "retrieval"  # the only task that claims the table
    found = model.evaluate(table)
    assert found["image_to_text_recall_at_1"] > 0.9 and found["text_to_image_recall_at_1"] == 1


def test_embeddings_of_images_and_texts_are_comparable(
    model: vg.TransferModel, table: Path
) -> None:
    images = model.embed(table.parent)
    assert images.shape == (24, 256) and images.dtype == np.float32
    texts = model.embed(text=["a red square", "a blue square"])
    assert texts.shape == (2, 256)
    assert (images[0] @ texts.T).argmax() == 0 and (images[2] @ texts.T).argmax() == 1
    with pytest.raises(OptionError, match="embed takes images, or text"):
        model.embed()


def test_search_finds_images_by_words_and_by_an_image(model: vg.TransferModel, table: Path) -> None:
    found = model.search(table.parent, "a green square", top=3)
    assert len(found) == 3 and found[0].similarity >= found[1].similarity
    assert all(int(Path(each.image).stem) % 4 == 1 for each in found)
    vectors = model.embed(table.parent)
    assert [each.image for each in model.search(vectors, "a green square", top=3)] == [
        str(int(Path(each.image).stem)) for each in found
    ]
    red = np.full((32, 32, 3), (220, 30, 30), np.uint8)
    assert int(model.search(vectors, red, top=1)[0].image) % 4 == 0


def test_the_command_line_trains_evaluates_and_searches(
    model: vg.TransferModel, table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    words = [str(tmp_path / "model"), str(table.parent), "a blue square", "--top", "2"]
    assert main(["search", *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert len(found) == 2 and int(Path(found[0]["image"]).stem) % 4 == 2
    assert main(["search", *words]) == 0
    assert main(["evaluate", str(tmp_path / "model"), str(table)]) == 0
    assert "mean_recall" in capsys.readouterr().out


def test_clip_retrieves_as_open_clip_does_before_training(tmp_path: Path, table: Path) -> None:
    """``head_start="identity"`` keeps the space of a network of images and text."""
    folder = tiny_clip.write_open_clip(tmp_path / "tiny")
    name = f"open_clip/local-dir:{folder}"
    options: dict[str, Any] = {"text": name, "head_start": "identity"}
    backbone = vg.load_backbone(name).eval()
    task = Retrieval(**options).bind(Retrieval(**options).read(table).train)
    head = task.build_head(backbone)
    features = backbone(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(head(features), features.pooled)
    with pytest.raises(OptionError, match="use head_start='closed_form'"):
        task.build_head(vg.load_backbone("simple_cnn", None, size=32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ""}, "text='' is not the name of a text encoder"),
        ({"temperature": 0}, "temperature=0 is not a number above 0"),
        ({"head_start": "zero"}, "head_start='zero'"),
    ],
)
def test_an_invalid_option_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Retrieval(**options)


@pytest.mark.exhaustive
@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
def test_the_task_conforms(check: Check[Any], trial: TaskTrial) -> None:
    check(trial)


@pytest.fixture(scope="module")
def trial() -> TaskTrial:
    return TaskTrial(Retrieval())
