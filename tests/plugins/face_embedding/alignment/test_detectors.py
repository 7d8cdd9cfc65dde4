"""Detectors by name or as callables, alignment of folders, and the MTCNN cascade."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from visiongraft.cli import main
from visiongraft.errors import DataError, PluginError, WeightsError
from visiongraft.plugins.face_embedding.alignment import mtcnn
from visiongraft.plugins.face_embedding.alignment.detectors import (
    align_face,
    align_folder,
    find_detector,
    largest_face,
)
from visiongraft.plugins.face_embedding.alignment.landmarks import TEMPLATE, align
from visiongraft.plugins.face_embedding.alignment.mtcnn import (
    Mtcnn,
    OutputNet,
    ProposalNet,
    RefineNet,
)


def at(*corners: tuple[float, float, float]) -> Any:
    """Make a detector that finds faces at (left, top, side), whatever the image."""

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.array([[x, y, x + s, y + s] for x, y, s in corners]).reshape(-1, 4)
        landmarks = np.array([TEMPLATE * s / 112 + [x, y] for x, y, s in corners])
        return boxes, landmarks.reshape(-1, 5, 2)

    return detect


def test_the_largest_face_is_aligned() -> None:
    image = skimage.data.astronaut()
    landmarks, count = largest_face(image, at((10, 10, 50), (180, 60, 112), (300, 10, 20)))
    assert count == 3
    assert np.allclose(landmarks, TEMPLATE + np.array([180, 60]))
    assert (align_face(image, at((180, 60, 112))) == align(image, landmarks)).all()


def test_an_image_without_a_face_is_refused() -> None:
    with pytest.raises(DataError, match="no face was found"):
        align_face(np.zeros((9, 9, 3), np.uint8), at())


def test_a_detector_with_wrong_shapes_is_refused() -> None:
    with pytest.raises(DataError, match=r"boxes \(1, 5\) and landmarks \(1, 5, 2\)"):
        largest_face(np.zeros((9, 9, 3)), lambda image: (np.zeros((1, 5)), np.zeros((1, 5, 2))))


def test_a_folder_is_aligned_with_its_names(tmp_path: Path) -> None:
    photo = skimage.data.astronaut()
    for person, image in {"ada": photo, "bob": photo[:, ::-1], "cem": photo[:10, :10]}.items():
        (tmp_path / "raw" / person).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "raw" / person / "1.jpg")
    (tmp_path / "raw" / "people_val.txt").write_text("ada\nbob\n")

    def detect(image: np.ndarray) -> Any:
        return at()(image) if len(image) < 20 else at((10, 10, 60), (80, 80, 20))(image)

    report = align_folder(tmp_path / "raw", tmp_path / "faces", detect)
    assert (report.written, report.without_face) == (2, ("cem/1.jpg",))
    assert report.several_faces == ("ada/1.jpg", "bob/1.jpg")
    names = {
        p.relative_to(tmp_path / "faces").as_posix() for p in (tmp_path / "faces").rglob("*.png")
    }
    assert names == {"ada/1.png", "bob/1.png"}
    assert (tmp_path / "faces" / "people_val.txt").read_text() == "ada\nbob\n"
    assert Image.open(tmp_path / "faces" / "ada" / "1.png").size == (112, 112)


def test_a_folder_is_not_aligned_into_itself(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is inside"):
        align_folder(tmp_path, tmp_path / "inside", at())
    with pytest.raises(DataError, match="contains no images"):
        align_folder(tmp_path, tmp_path.parent / "elsewhere", at())


def test_a_damaged_detector_names_the_image_it_failed_on(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "raw" / "a.png")
    same_point = lambda image: (np.ones((1, 4)), np.ones((1, 4, 2)))
    with pytest.raises(DataError, match=r"a\.png: the detector returned"):
        align_folder(tmp_path / "raw", tmp_path / "out", same_point)


# ---- by name ----


MINE = """
import numpy as np

def build(text):
    corners = np.array([[float(text), 0, float(text) + 50, 50]])
    return lambda image: (corners, np.zeros((1, 5, 2)))
"""


def test_a_detector_is_found_by_name(install: Callable[..., Path]) -> None:
    install("faces", "[visiongraft.face_detectors]\nmine = my_faces:build\n", my_faces=MINE)
    boxes, _ = find_detector("mine:7")(np.zeros((60, 60, 3), np.uint8))
    assert boxes.tolist() == [[7, 0, 57, 50]]
    with pytest.raises(PluginError, match="no detector 'mien'; did you mean 'mine'"):
        find_detector("mien")


def test_a_detector_that_cannot_be_imported_is_reported(install: Callable[..., Path]) -> None:
    install("faces", "[visiongraft.face_detectors]\nmine = my_faces:build\n")
    words = r"detector 'mine' \(my_faces:build\) cannot be loaded: ModuleNotFoundError: No module"
    with pytest.raises(PluginError, match=words):
        find_detector("mine")


def test_mtcnn_is_registered(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"mtcnn_pnet\.pt does not exist; MTCNN needs"):
        find_detector(f"mtcnn:{tmp_path}")


# ---- MTCNN ----


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    for net, name in zip((ProposalNet(), RefineNet(), OutputNet()), mtcnn.FILES, strict=True):
        torch.save(net.state_dict(), tmp_path / name)
    return tmp_path


def test_published_shapes_are_what_the_networks_have() -> None:
    shapes = [
        {name: tuple(t.shape) for name, t in net().state_dict().items()}
        for net in (ProposalNet, RefineNet, OutputNet)
    ]
    assert [len(s) for s in shapes] == [13, 16, 21]
    assert shapes[0]["conv4_2.weight"] == (4, 32, 1, 1)
    assert shapes[1]["dense4.weight"] == (128, 576)
    assert shapes[2]["dense5.weight"] == (256, 1152)
    assert shapes[2]["dense6_3.weight"] == (10, 256)


def test_weights_are_loaded_and_others_refused(weights: Path) -> None:
    found = Mtcnn(weights)
    stored = torch.load(weights / mtcnn.FILES[2], weights_only=True)
    assert torch.equal(found.output.state_dict()["dense6_3.weight"], stored["dense6_3.weight"])
    torch.save(ProposalNet().state_dict(), weights / mtcnn.FILES[1])
    with pytest.raises(WeightsError, match=r"mtcnn_rnet\.pt is not a weights file of RefineNet: "):
        Mtcnn(weights)


def test_untrained_networks_find_nothing_wrong_shaped(weights: Path) -> None:
    for shape in ((40, 60, 3), (13, 90, 1), (5, 5, 3)):
        boxes, landmarks = Mtcnn(weights)(np.zeros(shape, np.uint8))
        assert boxes.shape == (len(boxes), 4)
        assert landmarks.shape == (len(boxes), 5, 2)


@pytest.fixture
def planted(weights: Path) -> Mtcnn:
    """Plant weights for which anything bright is a face with landmarks at fixed positions."""
    found = Mtcnn(weights)
    for net in (found.propose, found.refine, found.output):
        for name, tensor in net.state_dict().items():
            tensor.zero_()
            if name.startswith("conv") and tensor.ndim == 4 and tensor.shape[2] > 1:
                tensor.fill_(1 / tensor[0].numel())  # means of means: the brightness
        for module in net.modules():
            if isinstance(module, torch.nn.PReLU):
                module.weight.fill_(1.0)
    found.propose.conv4_1.weight[1] = 20 / 32
    found.propose.conv4_1.bias[0] = 12.0  # a face if the brightness is above 0.6
    for hidden, score in (
        (found.refine.dense4, found.refine.dense5_1),
        (found.output.dense5, found.output.dense6_1),
    ):
        hidden.weight.fill_(1 / hidden.weight.shape[1])
        score.weight[1] = 20 / score.weight.shape[1]
        score.bias[0] = 8.0
    found.output.dense6_3.bias.copy_(torch.linspace(0, 0.9, 10))
    return found


def test_the_cascade_finds_what_is_bright(planted: Mtcnn) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:80, 70:120] = 255
    boxes, _ = planted(image)
    assert len(boxes) >= 1
    for box in boxes:
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        assert 70 < middle[0] < 120
        assert 30 < middle[1] < 80
    assert not len(planted(np.zeros((120, 160, 3), np.uint8))[0])


def test_landmarks_are_relative_to_their_window(planted: Mtcnn) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:80, 70:120] = 255
    boxes, landmarks = planted(image)
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    fractions = (landmarks + 1 - boxes[:, None, :2]) / sides[:, None]
    assert np.allclose(fractions[..., 0], np.linspace(0, 0.4, 5), atol=1e-3)
    assert np.allclose(fractions[..., 1], np.linspace(0.5, 0.9, 5), atol=1e-3)


def test_corrections_move_the_boxes(planted: Mtcnn) -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:80, 70:120] = 255
    before, _ = planted(image)
    planted.output.dense6_2.bias.copy_(torch.tensor([0.0, 0.0, 0.5, 0.5]))
    after, _ = planted(image)
    grown = (after[0, 2:] - after[0, :2]) / (before[0, 2:] - before[0, :2])
    assert np.allclose(grown, 1.5, atol=0.05)


def test_an_image_reaches_the_networks_in_the_order_of_matlab() -> None:
    """Columns first, as the published weights of the dense layers expect."""
    x = torch.arange(12.0).view(1, 2, 2, 3)  # channel, row, column
    expected = [float(x[0, c, r, w]) for w in range(3) for r in range(2) for c in range(2)]
    assert mtcnn._flat(x)[0].tolist() == expected


def test_windows_reach_over_the_edge_as_gray() -> None:
    planes = torch.ones(1, 3, 10, 10)
    (window,) = mtcnn._crop(planes, torch.tensor([[-9.0, -9.0, 10.0, 10.0]]), 20)
    assert window[:, 10:, 10:].min() == 1
    assert window[:, :10].max() == 0
    assert mtcnn._crop(planes, torch.tensor([[40.0, 40.0, 60.0, 60.0]]), 24).abs().max() == 0


BRIGHT = """
import numpy as np

def build(text):
    points = np.array([[12, 15], [28, 15], [20, 22], [14, 30], [26, 30]], float)
    count = lambda image: int(image.max() > 0)
    return lambda image: (np.tile([[0, 0, 40, 40]], (count(image), 1)), np.tile(points, (count(image), 1, 1)))
"""


def test_the_command_aligns_a_folder(
    install: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        "faces", "[visiongraft.face_detectors]\nbright = bright_faces:build\n", bright_faces=BRIGHT
    )
    for name, value in (("face", 200), ("dark", 0)):
        (tmp_path / "photos").mkdir(exist_ok=True)
        image = np.full((40, 40, 3), value, np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
    given = ["align-faces", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert main([*given, "--detector", "bright:", "--side", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["written"], found["without_face"]) == (1, ["dark.png"])
    with Image.open(tmp_path / "out" / "face.png") as image:
        assert image.size == (32, 32)
    assert main([*given, "--detector", "bright:"]) == 2
    assert "already exists" in capsys.readouterr().err
