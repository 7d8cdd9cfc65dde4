"""Prediction from the file alone, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from visiongraft.errors import (
    ArtifactError,
    DataError,
    OptionError,
    PluginError,
    RuntimeProviderError,
    VisiongraftError,
)
from visiongraft.exporters.runtime.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(exported: Any) -> Predictor:
    return Predictor(exported.path)


def expected(exported: Any, images: list[Any]) -> list[int]:
    graph = exported.model.inference_graph()
    return [int(graph(torch.tensor(image[None]))["classes"]) for image in images]


def fixed(exported: Any, folder: Path, **changes: Any) -> Predictor:
    """Change what the file says about its input."""
    model = exported.load()
    for prop in model.metadata_props:
        if prop.key == "input":
            prop.value = json.dumps({**json.loads(prop.value), **changes})
    onnx.save(model, folder / "fixed.onnx")
    return Predictor(folder / "fixed.onnx")


def test_images_of_all_sizes_come_back_in_order(
    exported: Any, predictor: Predictor, images: list[Any]
) -> None:
    mixed = [images[i] for i in (0, 1, 0, 5, 1, 3, 2, 0)]
    for batch_size in (1, 3, 100):
        results = predictor.predict(mixed, batch_size=batch_size)
        assert [int(r["classes"]) for r in results] == expected(exported, mixed)
        assert [int(r["area"]) for r in results] == [p.shape[0] * p.shape[1] for p in mixed]
    assert len(set(expected(exported, mixed))) > 1


def test_paths_arrays_and_pil_images_have_the_same_predictions(
    predictor: Predictor, images: list[Any], tmp_path: Path
) -> None:
    array = images[0]
    image = Image.fromarray(array)
    path = tmp_path / "a.png"
    image.save(path)
    results = predictor.predict([array, image, path, str(path)])
    assert len(results) == 4
    for result in results[1:]:
        np.testing.assert_array_equal(result["probabilities"], results[0]["probabilities"])


def test_tensors_float_arrays_and_datasets_have_the_predictions_of_the_model(
    exported: Any, predictor: Predictor, images: list[Any]
) -> None:
    class Pairs:  # a map-style dataset as torch has them: without __iter__
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            if index >= 3:
                raise RuntimeError("read past the end")
            return images[index], "a target"

    tensor = torch.tensor(images[0]).permute(2, 0, 1)
    forms = [images[0], tensor, tensor / 255, images[0] / np.float64(255)]
    for result in predictor.predict(forms):
        assert result["area"] == images[0].shape[0] * images[0].shape[1]
        assert result["classes"] == expected(exported, images[:1])[0]
    assert len(predictor.predict(tensor)) == 1
    for several in (Pairs(), exported.photos.subset(range(3))):
        found = predictor.predict(several)
        assert [int(r["classes"]) for r in found] == expected(exported, images[:3])
    assert exported.model.predict(Pairs()) == exported.model.predict(images[:3])
    assert len(predictor.predict(torch.stack([tensor] * 3))) == 3


def test_one_image_is_predicted_as_a_list_of_one(predictor: Predictor, images: list[Any]) -> None:
    assert len(predictor.predict(images[0])) == 1
    assert len(predictor.predict(Image.fromarray(images[0]))) == 1
    assert len(predictor.predict(np.stack([images[0]] * 3))) == 3
    assert predictor.predict([]) == []


def test_images_are_read_only_as_they_are_needed(predictor: Predictor, images: list[Any]) -> None:
    given = []

    def endless() -> Any:
        for image in [*images[:4], None]:
            given.append(image)
            yield image

    with pytest.raises(
        DataError,
        match="image 4: an image must be a path, PIL image, array or tensor, not NoneType",
    ):
        predictor.predict(endless(), batch_size=2)
    assert len(given) == 5


def test_a_gray_array_is_repeated_over_the_channels(
    predictor: Predictor, images: list[Any]
) -> None:
    gray = images[0][..., 0]
    (got,) = predictor.predict(gray)
    (in_color,) = predictor.predict(np.stack([gray] * 3, axis=2))
    np.testing.assert_array_equal(got["probabilities"], in_color["probabilities"])


def test_a_folder_is_predicted_in_the_order_of_its_paths(
    exported: Any, predictor: Predictor, images: list[Any], tmp_path: Path
) -> None:
    for number, image in enumerate(images):
        (tmp_path / str(number // 3)).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / str(number // 3) / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    results = predictor.predict(tmp_path, batch_size=2)
    assert [int(r["classes"]) for r in results] == expected(exported, images)
    assert len(predictor.predict(str(tmp_path / "0"))) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty contains no images"):
        predictor.predict(tmp_path / "empty")


def test_run_returns_the_arrays_of_one_batch(predictor: Predictor, images: list[Any]) -> None:
    decoded = predictor.run(images[0][None, ::-1])  # not contiguous
    assert {name: values.shape for name, values in decoded.items()} == {
        "probabilities": (1, 3),
        "classes": (1,),
        "area": (1,),
    }


def test_the_file_describes_task_class_names_and_providers(predictor: Predictor) -> None:
    assert predictor.task == "shades"
    assert predictor.class_names == ("dark", "middle", "/m/01bright")
    assert predictor.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("images", "what"),
    [
        (np.zeros((1, 8, 8, 3)), r"float64 \(1, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 4), np.uint8), r"uint8 \(1, 8, 8, 4\)"),
        (np.zeros((1, 0, 8, 3), np.uint8), r"uint8 \(1, 0, 8, 3\)"),
        (torch.zeros(1, 8, 8, 3), "a Tensor"),
        ([[1]], "a list"),
    ],
)
def test_run_refuses_other_arrays_in_one_line(predictor: Predictor, images: Any, what: str) -> None:
    with pytest.raises(DataError, match=rf"takes uint8 \(images, any, any, 3\), not {what}"):
        predictor.run(images)


def test_predict_names_the_image_that_is_wrong(
    predictor: Predictor, images: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"image 1: .*uint8 in 0\.\.255.* not float32 from 7 to 7"):
        predictor.predict([images[0], np.full((4, 4, 3), 7, np.float32)])
    with pytest.raises(DataError, match=r"missing\.jpg"):
        predictor.predict(tmp_path / "missing.jpg")
    truncated = tmp_path / "half.jpg"
    Image.fromarray(images[0]).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"image 0: .*truncated"):
        predictor.predict(Image.open(truncated))
    with pytest.raises(OptionError, match="batch_size=0"):
        predictor.predict(images, batch_size=0)


def test_a_fixed_size_file_refuses_other_sizes_in_one_line(exported: Any, tmp_path: Path) -> None:
    predictor = fixed(exported, tmp_path, height=40, width=56)
    assert predictor.run(np.zeros((2, 40, 56, 3), np.uint8))["classes"].shape == (2,)
    with pytest.raises(DataError, match=r"takes uint8 \(images, 40, 56, 3\)"):
        predictor.run(np.zeros((2, 40, 57, 3), np.uint8))


def test_predicting_an_image_of_another_size_is_refused_with_a_remedy(
    exported: Any, tmp_path: Path, images: list[Any]
) -> None:
    predictor = fixed(exported, tmp_path, height=40, width=56)
    assert len(predictor.predict(np.zeros((2, 40, 56, 3), np.uint8))) == 2
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    size = "x".join(map(str, images[0].shape[:2]))
    message = rf"a\.png has {size} pixels, but .*fixed\.onnx takes 40x56 only; resize it first"
    with pytest.raises(DataError, match=message):
        predictor.predict(tmp_path / "a.png")


def without_sizes(bare: Any, folder: Path) -> Path:
    """Cut a file down to the results that need no sizes."""
    path = folder / "without_sizes.onnx"
    onnx.utils.extract_model(bare.path, path, ["images"], ["probabilities"])
    values = {p.key: p.value for p in bare.load().metadata_props}
    entry = {**json.loads(values["input"]), "sizes": None}
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**values, "input": json.dumps(entry)})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("with_sizes", [False, True])
def test_a_file_with_preprocessed_input_runs_arrays_and_refuses_images(
    bare: Any, tmp_path: Path, with_sizes: bool
) -> None:
    predictor = Predictor(bare.path if with_sizes else without_sizes(bare, tmp_path))
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    assert predictor.run(images)["probabilities"].shape == (3, 3)
    predictor.warm_up([1, 2])
    with pytest.raises(DataError, match=r"takes float32 \(images, 3, 32, 32\), not uint8"):
        predictor.run(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(OptionError, match=r"without preprocessing.*export with input='uint8'"):
        predictor.predict(np.zeros((32, 32, 3), np.uint8))
    sizes = np.array([[4, 5], [6, 7], [8, 9]])
    decoded = predictor.run(images, sizes)
    if not with_sizes:
        return
    assert decoded["area"].tolist() == [20, 42, 72]
    assert predictor.run(images)["area"].tolist() == [32 * 32] * 3
    with pytest.raises(DataError, match=r"sizes must be int64 \(3, 2\), not int64 \(2, 2\)"):
        predictor.run(images, sizes[:2])
    with pytest.raises(DataError, match=r"sizes must be int64 \(3, 2\), not float64"):
        predictor.run(images, sizes / 2)


def test_a_file_that_takes_raw_images_knows_their_sizes(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="derives sizes from its images; omit them"):
        predictor.run(np.zeros((1, 8, 8, 3), np.uint8), np.array([[8, 8]]))


def test_a_file_with_other_inputs_than_declared_is_refused(exported: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="takes images, but its metadata declares photos"):
        fixed(exported, tmp_path, name="photos")


def test_a_file_over_the_stated_size_is_refused(exported: Any) -> None:
    size = exported.path.stat().st_size
    assert Predictor(exported.path, max_bytes=size).task == "shades"
    with pytest.raises(ArtifactError, match=f"has {size} bytes, more than max_bytes={size - 1}"):
        Predictor(exported.path, max_bytes=size - 1)


def test_warming_up_runs_the_sizes_that_will_come(exported: Any) -> None:
    predictor = Predictor(exported.path, threads=1)
    predictor.warm_up()
    predictor.warm_up([1, 4], size=(20, 30), runs=1)
    with pytest.raises(DataError, match=r"not uint8 \(1, 0, 5, 3\)"):
        predictor.warm_up(size=(0, 5))


def test_a_failure_inside_the_graph_is_one_line(exported: Any, tmp_path: Path) -> None:
    model = exported.load()
    indices = onnx.numpy_helper.from_array(np.array([[99]]), "planted")
    model.graph.initializer.append(indices)
    model.graph.node.append(onnx.helper.make_node("GatherND", ["area", "planted"], ["boom"]))
    info = onnx.helper.make_tensor_value_info("boom", onnx.TensorProto.INT64, None)
    model.graph.output.append(info)
    onnx.save(model, tmp_path / "boom.onnx")
    with pytest.raises(VisiongraftError, match=r"boom\.onnx failed on uint8 \(1, 9, 9, 3\)") as e:
        Predictor(tmp_path / "boom.onnx").run(np.zeros((1, 9, 9, 3), np.uint8))
    assert "\n" not in str(e.value)


def test_files_that_visiongraft_did_not_export_are_refused(exported: Any, tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    model = exported.load()
    model.ClearField("metadata_props")
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"foreign\.onnx does not describe its input"):
        Predictor(path)
    onnx.helper.set_model_props(model, {"names": "{0: 'cat'}"})
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"was it exported by visiongraft\?"):
        Predictor(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no\.onnx does not exist"):
        Predictor(tmp_path / "no.onnx")


def test_a_file_that_onnxruntime_refuses_is_one_line(exported: Any, tmp_path: Path) -> None:
    model = exported.load()
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ArtifactError, match=r"bad\.onnx cannot be loaded: .*NoSuchOperator"):
        Predictor(tmp_path / "bad.onnx")


# ---- typed predictions ----


TYPED = """
def typed(arrays, metadata):
    return [metadata["class_names"][i] for i in arrays["classes"]]
"""


def test_an_installed_plugin_makes_typed_predictions(
    exported: Any, images: list[Any], provide: Callable[..., None]
) -> None:
    provide(TYPED)
    predictor = Predictor(exported.path)
    names = [predictor.class_names[i] for i in expected(exported, images)]
    assert predictor.predict(images) == names


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("def typed(arrays, metadata): return []", "returned 0 results for 1 images"),
    ],
)
def test_a_broken_prediction_plugin_is_named(
    exported: Any, images: list[Any], provide: Callable[..., None], code: str, message: str
) -> None:
    provide(code)
    with pytest.raises(PluginError, match=f"task 'shades'.*{message}"):
        Predictor(exported.path).predict(images[0])


# ---- drawing ----

DRAW = """
def draw(image, prediction):
    assert image.mode == "RGB" and isinstance(prediction, str)
    color = {"dark": "black", "middle": "gray"}.get(prediction, "white")
    image.paste(color, (0, 0, image.width, image.height // 2))
    return image
"""


def test_predictions_are_drawn_on_their_images(
    exported: Any, images: list[Any], provide: Callable[..., None], tmp_path: Path
) -> None:
    provide(TYPED, DRAW)
    Image.fromarray(images[0]).save(tmp_path / "first.png")
    given = [tmp_path / "first.png", *images[1:4]]
    results = Predictor(exported.path).predict(given, batch_size=3, save=tmp_path / "drawn")
    files = sorted((tmp_path / "drawn").iterdir())
    assert [file.name for file in files] == [
        "00000-first.jpg",
        "00001-image 1.jpg",
        "00002-image 2.jpg",
        "00003-image 3.jpg",
    ]
    shades = {"dark": 0, "middle": 128}
    for file, result, image in zip(files, results, images, strict=False):
        drawn = np.asarray(Image.open(file))
        assert drawn.shape == image.shape
        assert abs(int(drawn[4, 4, 0]) - shades.get(result, 255)) < 3


@pytest.mark.parametrize("plugin", [(), (TYPED,)], ids=["nothing", "no drawing"])
def test_where_nothing_draws_predictions_still_come_with_a_warning(
    exported: Any,
    images: list[Any],
    provide: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    plugin: tuple[str, ...],
) -> None:
    if plugin:
        provide(*plugin)
    assert len(Predictor(exported.path).predict(images[:2], save=tmp_path / "drawn")) == 2
    assert caplog.messages == ["no plugin that draws predictions of task 'shades' is installed"]
    assert not (tmp_path / "drawn").exists()


# ---- without PyTorch ----

ALONE = """
import sys
from visiongraft.exporters.runtime.predictor import Predictor
predictor = Predictor(sys.argv[1])
predictions = predictor.predict(sys.argv[2])
heavy = {"torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors"} & set(sys.modules)
print(len(predictions), sorted(heavy))
"""


def test_predicting_imports_no_torch(
    exported: Any, images: list[Any], provide: Callable[..., None], tmp_path: Path
) -> None:
    provide(TYPED)
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    command = [sys.executable, "-c", ALONE, str(exported.path), str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 []"
    assert done.stderr == ""


TIMED = """
import time
import numpy, onnxruntime, PIL.Image, PIL.ImageOps
start = time.process_time()
import visiongraft.exporters.runtime.predictor
print(time.process_time() - start)
"""


def test_the_import_is_quick() -> None:
    done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.5


# ---- execution providers ----


def test_requesting_cuda_uses_cuda_or_raises_an_error_with_the_reason(
    exported: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        providers = Predictor(exported.path, providers="cuda").providers
    except RuntimeProviderError as error:
        assert str(error).startswith("CUDAExecutionProvider was requested but cannot be used: ")
        assert "no reason" not in str(error)
        assert "\n" not in str(error)
    else:
        assert providers[0] == "CUDAExecutionProvider"
    assert capfd.readouterr() == ("", "")
