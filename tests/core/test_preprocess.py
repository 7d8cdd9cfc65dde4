from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, v2

from visiongraft.errors import OptionError
from visiongraft.preprocess import INTERPOLATIONS, Preprocess, PreprocessConfig, as_size

sides = st.integers(1, 400)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
fractions = st.floats(0.01, 1.0)


def random_images(height: int, width: int, channels: int = 3, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    shape = (count, height, width, channels)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@given(sides, sides, sizes, fractions)
def test_the_region_is_inside_the_image_and_centered(
    height: int, width: int, size: tuple[int, int], fraction: float
) -> None:
    preprocess = Preprocess(PreprocessConfig(size, crop_fraction=fraction))
    top, left, h, w = preprocess.region(height, width)
    assert 1 <= h <= height and 1 <= w <= width
    assert 0 <= (height - h) - 2 * top <= 1
    assert 0 <= (width - w) - 2 * left <= 1


@given(st.integers(32, 400), st.integers(32, 400), st.integers(8, 300), st.integers(8, 300))
def test_the_region_is_the_largest_of_the_right_shape(
    height: int, width: int, rows: int, columns: int
) -> None:
    _, _, h, w = Preprocess(PreprocessConfig((rows, columns))).region(height, width)
    scale = min(height / rows, width / columns)
    assert abs(h - rows * scale) <= 1
    assert abs(w - columns * scale) <= 1


@given(sides, sides, sizes)
def test_stretching_takes_the_whole_image(height: int, width: int, size: tuple[int, int]) -> None:
    preprocess = Preprocess(PreprocessConfig(size, resize="stretch", crop_fraction=0.5))
    assert preprocess.region(height, width) == (0, 0, height, width)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(120, 90), (40, 40), (33, 71)])
def test_resizing_equals_torchvisions_antialiased_resize_of_the_region(
    interpolation: str, shape: tuple[int, int]
) -> None:
    config = PreprocessConfig((32, 48), interpolation=interpolation, crop_fraction=0.9)
    preprocess = Preprocess(config)
    images = random_images(*shape)
    top, left, h, w = preprocess.region(*shape)
    cut = images[:, top : top + h, left : left + w].permute(0, 3, 1, 2).float()
    mode = InterpolationMode[interpolation.upper()]
    expected = v2.functional.resize(cut, [32, 48], mode, antialias=True).clamp(0, 255)
    torch.testing.assert_close(preprocess.resize(images), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40), (30, 90), (64, 64)])
def test_a_letterbox_shows_the_whole_image_at_its_aspect_ratio_beside_the_mean_color(
    height: int, width: int
) -> None:
    config = PreprocessConfig((32, 32), mean=(0.2, 0.4, 0.6), resize="letterbox")
    white = torch.full((1, height, width, 3), 255, dtype=torch.uint8)
    resized = Preprocess(config).resize(white)[0]
    rows, columns = round(32 * min(1, height / width)), round(32 * min(1, width / height))
    inside = resized[:, : rows - 1, : columns - 1]
    torch.testing.assert_close(inside, torch.full_like(inside, 255.0))
    for beside in (resized[:, rows + 1 :], resized[:, :, columns + 1 :]):
        mean = 255 * torch.tensor(config.mean).view(3, 1, 1).expand_as(beside)
        torch.testing.assert_close(beside, mean)


@given(sides, sides, st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_a_letterbox_of_any_image_has_the_requested_size_and_can_be_undone(
    height: int, width: int, size: tuple[int, int]
) -> None:
    preprocess = Preprocess(PreprocessConfig(size, resize="letterbox"))
    assert preprocess(random_images(height, width)).shape == (2, 3, *size)
    below, right = preprocess.filled(height, width)
    assert min(below, right) == 0  # only one side
    assert preprocess.restore(torch.zeros(2, 1, *size), height, width).shape == (
        2,
        1,
        height,
        width,
    )


def test_bicubic_never_leaves_the_range_of_images() -> None:
    edge = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    edge[:, :, 8:] = 255
    resized = Preprocess(PreprocessConfig((40, 40), interpolation="bicubic")).resize(edge)
    assert resized.min() == 0 and resized.max() == 255


def test_mean_and_std_are_taken_per_channel() -> None:
    config = PreprocessConfig((1, 1), mean=(0.0, 0.5, 1.0), std=(0.5, 0.25, 1.0))
    white = torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)
    assert Preprocess(config)(white).flatten().tolist() == [2.0, 2.0, 0.0]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_get_the_average_mean_and_std(channels: int) -> None:
    config = PreprocessConfig((8, 8), mean=(0.1, 0.2, 0.6), std=(0.2, 0.2, 0.5))
    config = config.with_channels(channels)
    assert config.mean == pytest.approx((0.3,) * channels)
    assert config.std == pytest.approx((0.3,) * channels)
    assert Preprocess(config)(random_images(9, 7, channels)).shape == (2, channels, 8, 8)


def test_three_channels_keep_their_own_mean_and_std() -> None:
    config = PreprocessConfig((8, 8))
    assert config.with_channels(3) is config


@given(sides, sides, st.tuples(st.integers(1, 40), st.integers(1, 40)), fractions)
def test_every_image_becomes_finite_input_of_the_requested_size(
    height: int, width: int, size: tuple[int, int], fraction: float
) -> None:
    out = Preprocess(PreprocessConfig(size, crop_fraction=fraction))(random_images(height, width))
    assert out.shape == (2, 3, *size)
    assert out.dtype is torch.float32
    assert out.isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resize": "squeeze"}, "resize='squeeze' is not one of crop, stretch, letterbox, pad"),
        ({"interpolation": "nearest"}, "interpolation='nearest' is not one of"),
        ({"size": (0, 8)}, "at least 1 pixel"),
        ({"size": (8, 8, 3)}, "at least 1 pixel"),
        ({"crop_fraction": 0.0}, r"not in \(0, 1\]"),
        ({"crop_fraction": 1.5}, r"not in \(0, 1\]"),
        ({"crop_fraction": float("nan")}, r"not in \(0, 1\]"),
        ({"resize": "pad"}, "takes multiples of 32"),
        ({"std": (0.2, 0.2, 0.0)}, "each std above 0"),
        ({"mean": (0.5,)}, "one number per image channel"),
        ({"mean": (), "std": ()}, "one number per image channel"),
    ],
)
def test_an_impossible_setting_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        PreprocessConfig(**{"size": (8, 8), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, 1.5, "96", (96,), (96, 0), (1, 2, 3), [8, 8.0], True])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(OptionError, match="neither a number of pixels"):
        as_size(size)  # type: ignore[arg-type]


def test_a_size_is_a_side_or_a_height_and_a_width_or_nothing() -> None:
    assert as_size(96) == (96, 96)
    assert as_size([64, 96]) == (64, 96)
    assert as_size(None) is None


@given(sides, sides)
def test_padding_leaves_every_pixel_and_fills_up_with_the_mean_color(
    height: int, width: int
) -> None:
    preprocess = Preprocess(PreprocessConfig((64, 32), resize="pad"))
    images = random_images(height, width, count=1)
    padded = preprocess(images)
    assert all(0 <= padded.shape[2 + i] - side < 32 for i, side in enumerate((height, width)))
    assert all(side % 32 == 0 for side in padded.shape[2:])
    inside = padded[:, :, :height, :width]
    assert torch.equal(inside, preprocess.normalize(images.permute(0, 3, 1, 2)))
    assert padded.count_nonzero() == inside.count_nonzero()


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(64, 96), (33, 47), (1, 5)])
def test_maps_come_back_at_the_size_of_the_images(resize: str, shape: tuple[int, int]) -> None:
    preprocess = Preprocess(PreprocessConfig((32, 64), resize=resize))
    network_input = preprocess(random_images(*shape))
    restored = preprocess.restore(network_input, *shape)
    assert restored.shape == (2, 3, *shape)
    if resize == "pad":
        assert torch.equal(restored, network_input[:, :, : shape[0], : shape[1]])


def test_a_map_is_restored_to_the_position_in_the_image_that_it_was_computed_for() -> None:
    image = torch.zeros(1, 80, 120, 3, dtype=torch.uint8)
    image[:, 20:40, 90:110] = 255
    for resize in ("stretch", "pad"):
        preprocess = Preprocess(PreprocessConfig((64, 64), resize=resize))
        bright = preprocess.restore(preprocess(image), 80, 120)[0, 0] > 0
        expected = image[0, :, :, 0] > 0
        assert (bright & expected).sum() / (bright | expected).sum() > 0.85


def test_maps_of_cropped_images_cannot_come_back() -> None:
    with pytest.raises(OptionError, match="cannot be mapped back to cropped images"):
        Preprocess(PreprocessConfig((8, 8))).restore(torch.zeros(1, 1, 8, 8), 20, 20)
