"""Videos are read from folders, lists as those of UCF101, tables and memory; groups stay together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visiongraft.errors import DataError
from visiongraft.inputs import Clips
from visiongraft.plugins.classification.reading import LabeledDataset
from visiongraft.plugins.video.reading import read_dataset, with_groups_held_out
from visiongraft.plugins.video.task import Video

CLIPS = Clips(2)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a video")
    return root


def listed(dataset: LabeledDataset) -> dict[str, list[tuple[str, str]]]:
    return {
        split: [
            (Path(part.samples.name(i)).name, part.labels[i][0]) for i in range(len(part.samples))
        ]
        for split, part in dataset.splits.items()
    }


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    root = touch(
        tmp_path, "train/A/v_A_g08_c01.avi", "train/B/v_B_g08_c01.avi", "B/v_B_g01_c01.avi"
    )
    (root / "classInd.txt").write_text("1 A\n2 B\n")
    (root / "trainlist01.txt").write_text("A/v_A_g08_c01.avi 1\nB/v_B_g08_c01.avi 2\n")
    (root / "trainlist02.txt").write_text("A/other.avi 1\n")
    (root / "testlist01.txt").write_text("B/v_B_g01_c01.avi\n")
    return root


def test_videos_and_folders_of_frames_are_in_folders_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "walk/clip/0.png", "walk/clip/1.png")
    dataset = read_dataset(tmp_path, CLIPS)
    assert listed(dataset) == {"train": [("a.mp4", "run"), ("clip", "walk")]}
    assert dataset.class_names == ("run", "walk")


def test_folders_of_splits_are_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "val/run/b.mp4", "test/run/c.mp4", "train/walk/readme.txt")
    dataset = read_dataset(tmp_path, CLIPS)
    assert listed(dataset) == {
        "train": [("a.mp4", "run")],
        "validation": [("b.mp4", "run")],
        "test": [("c.mp4", "run")],
    }
    assert dataset.warnings == ("folders without videos: walk",)


def test_the_lists_of_ucf101_name_videos_wherever_they_are(ucf: Path) -> None:
    dataset = read_dataset(ucf, CLIPS)
    train = [("v_A_g08_c01.avi", "A"), ("v_B_g08_c01.avi", "B")]
    assert listed(dataset) == {"train": train, "test": [("v_B_g01_c01.avi", "B")]}
    assert dataset.class_names == ("A", "B")
    (warning,) = dataset.warnings
    assert warning.endswith("trainlist01.txt is used; ignored: trainlist02.txt")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("classInd.txt", "A\n", r"classInd\.txt, line 1: write a number and a class name"),
        ("trainlist01.txt", "A/v_A_g08_c01.avi 7\n", r"trainlist01\.txt, line 1: 7 is no class"),
        ("testlist01.txt", "C/x.avi\n", r"testlist01\.txt, line 1: C is no class of classInd\.txt"),
    ],
)
def test_a_fault_in_a_list_names_its_line(ucf: Path, name: str, text: str, words: str) -> None:
    (ucf / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_dataset(ucf, CLIPS)


def test_listed_videos_that_do_not_exist_are_named(ucf: Path) -> None:
    (ucf / "trainlist01.txt").write_text("A/v_A_g08_c01.avi 1\nB/gone.avi 2\n")
    warnings = read_dataset(ucf, CLIPS).warnings
    assert any("lists 1 videos that do not exist: gone.avi" in line for line in warnings)


def test_a_table_lists_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "videos.csv").write_text("path,label,split\na.mp4,run,train\nb.mp4,walk,val\n")
    dataset = read_dataset(tmp_path / "videos.csv", CLIPS)
    assert listed(dataset) == {"train": [("a.mp4", "run")], "validation": [("b.mp4", "walk")]}


@pytest.mark.parametrize("what", ["missing", "empty", "text"])
def test_what_has_no_videos_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no table")
    with pytest.raises(DataError, match=r"no videos in folders of classes|neither a folder"):
        read_dataset(tmp_path / what, CLIPS)


def test_groups_of_videos_are_held_out_as_wholes(tmp_path: Path) -> None:
    names = [
        f"{kind}/v_{kind}_g{g:02d}_c{c:02d}.avi" for kind in "AB" for g in (1, 2, 3) for c in (1, 2)
    ]
    dataset = read_dataset(touch(tmp_path, *names), CLIPS)
    divided = listed(with_groups_held_out(dataset, 0.3, seed=0))
    groups = {split: {name.split("_c")[0] for name, _ in part} for split, part in divided.items()}
    assert len(divided["validation"]) == 4
    assert not groups["train"] & groups["validation"]


def test_one_group_for_each_class_is_divided_with_a_warning(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{k}/v_{k}_g01_c{c:02d}.avi" for k in "AB" for c in (1, 2, 3)))
    splits = Video().read(tmp_path)
    assert any("one group of videos" in line for line in splits.warnings)
    assert len(splits.validation) > 0


def test_a_damaged_and_a_short_video_are_counted_and_named(tmp_path: Path) -> None:
    import visiongraft

    for kind, value in (("dark", 20), ("light", 220)):
        for clip in range(3):
            folder = tmp_path / kind / f"clip{clip}"
            folder.mkdir(parents=True)
            for i in range(3 if (kind, clip) != ("light", 2) else 1):
                Image.new("RGB", (20, 24), (value, value, value + clip)).save(folder / f"{i}.png")
    with pytest.raises(
        DataError, match=r"of 6 clips are unreadable.*clip2: has 1 frames, fewer than"
    ):
        visiongraft.fit(
            tmp_path, task=Video(frames=2), backbone="simple_cnn", weights=None, size=32
        )


def test_clips_in_memory_have_classes(tmp_path: Path) -> None:
    data: list[tuple[Any, str]] = [(np.zeros((3, 8, 8, 3), np.uint8), name) for name in ("a", "b")]
    dataset = read_dataset(data, CLIPS)
    assert dataset.class_names == ("a", "b")
    assert dataset.splits["train"].samples.load(0).shape == (2, 3, 8, 8)
