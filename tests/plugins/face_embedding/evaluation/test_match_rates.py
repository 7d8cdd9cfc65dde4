"""Error rates of faces by group: they are those of brute force, and planted differences are found."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visiongraft
from visiongraft.cli import main
from visiongraft.plugins.face_embedding.evaluation.match_rates import compare_groups
from visiongraft.plugins.face_embedding.task import FaceEmbedding


def faces(spread: dict[str, float], people: int = 24, images: int = 3) -> tuple:
    """Make people whose embeddings are near their own, and near each other where ``spread`` is small."""
    generator = np.random.default_rng(0)
    rows, names, groups = [], [], []
    for group, size in spread.items():
        center = generator.normal(size=16)
        for person in range(people):
            own = center + size * generator.normal(size=16)
            for _ in range(images):
                vector = own + 0.3 * generator.normal(size=16)
                rows.append(vector / np.linalg.norm(vector))
                names.append(f"{group}{person}")
                groups.append(group)
    return np.array(rows, dtype=np.float32), names, groups


def test_rates_are_those_of_all_pairs_of_the_group() -> None:
    embeddings, people, groups = faces({"a": 0.5, "b": 1.0})
    order = np.random.default_rng(1).permutation(len(people))
    embeddings, people, groups = (
        embeddings[order],
        [people[i] for i in order],
        [groups[i] for i in order],
    )
    found = compare_groups(embeddings, people, groups, 0.8)
    for group in found.groups:
        same, other = [], []
        own = [i for i, g in enumerate(groups) if g == group.name]
        for i, j in combinations(own, 2):
            close = float(embeddings[i].astype(float) @ embeddings[j].astype(float)) >= 0.8
            (same if people[i] == people[j] else other).append(close)
        assert group.false_match_rate.value == pytest.approx(np.mean(other))
        assert group.false_non_match_rate.value == pytest.approx(1 - np.mean(same))
        assert group.false_match_rate.low <= np.mean(other) <= group.false_match_rate.high


def test_a_group_whose_people_look_alike_is_found() -> None:
    found = compare_groups(*faces({"a": 0.3, "b": 1.5}), 0.8)
    assert found.groups[0].false_match_rate.value > 3 * found.groups[1].false_match_rate.value
    assert found.chance is not None and found.chance["false_match_rate"] < 0.05


def test_random_groups_are_not_called_different() -> None:
    embeddings, people, _ = faces({"a": 1.0}, people=48)
    groups = ["x" if int(name[1:]) % 2 else "y" for name in people]
    found = compare_groups(embeddings, people, groups, 0.7)
    assert found.chance is not None and found.chance["false_match_rate"] > 0.05


def test_groups_of_few_people_are_flagged_and_not_compared() -> None:
    one, people, groups = faces({"a": 1.0, "b": 1.0})
    few, more, names = faces({"c": 0.1}, people=4)
    found = compare_groups(np.concatenate([one, few]), people + more, groups + names, 0.8)
    assert [group.small for group in found.groups] == [False, False, True]
    assert found.statements()[0] == "too few people to compare: c"


def test_two_images_of_one_person_in_two_groups_are_no_false_match() -> None:
    embeddings, people, groups = faces({"a": 1.0, "b": 1.0})
    groups = ["a" if i % 2 else "b" for i in range(len(groups))]
    found = compare_groups(embeddings, people, groups, 0.8)
    assert sum(group.images for group in found.groups) == len(people)


def test_the_command_measures_a_trained_model_by_a_table_of_groups(
    tmp_path: Path, capsys: Any
) -> None:
    examples = FaceEmbedding().examples()
    data = Path(examples.make_dataset(tmp_path / "faces", 24, 0))
    files = sorted(path for path in data.rglob("*") if path.is_file())
    people = sorted({path.parent.name for path in files})
    rows = [f"{path},{'xy'[people.index(path.parent.name) % 2]}" for path in files]
    table = tmp_path / "groups.csv"
    table.write_text("path,group\n" + "\n".join(rows) + "\n")
    visiongraft.fit(
        data,
        task="face_embedding",
        backbone="simple_cnn",
        weights=None,
        size=16,
        schedule="linear_probe",
        epochs=1,
        device="cpu",
        out=tmp_path / "run",
        callbacks=(),
    )
    command = ["match-rates", str(tmp_path / "run"), str(data), "--by", str(table)]
    assert main([*command, "--threshold", "0.9", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [group["name"] for group in answer["groups"]] == ["x", "y"]
    assert all(group["small"] for group in answer["groups"]) and answer["chance"] is None
    assert main([*command, "--threshold", "2"]) == 2
    assert "threshold=2.0 is not a similarity in [-1, 1]" in capsys.readouterr().err
