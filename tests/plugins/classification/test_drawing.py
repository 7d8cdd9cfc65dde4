from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visiongraft.plugins.classification.drawing import (
    MARGIN,
    MIN_SIDE,
    caption,
    draw_caption,
)
from visiongraft.plugins.classification.prediction import Classified, MultiClassified

CAT = Image.fromarray(skimage.data.chelsea())


def classified(label: str, score: float = 0.93) -> Classified:
    return Classified(label, score, {label: score, "rest": 1 - score})


def below(drawn: Image.Image, image: Image.Image) -> Any:
    """The caption: all rows below the image, uint8 (h, w, 3)."""
    return np.asarray(drawn)[image.height :]


# ---- the text ----


def test_the_caption_has_label_and_score() -> None:
    assert caption(classified("cat", 0.934)) == "cat 0.93"


def test_the_caption_has_several_labels_in_order() -> None:
    many = MultiClassified(("dog", "cat"), {"cat": 0.5, "dog": 0.934, "eel": 0.1})
    assert caption(many) == "dog 0.93, cat 0.50"


def test_the_caption_without_labels() -> None:
    assert caption(MultiClassified((), {"cat": 0.1})) == "no label"


# ---- the image ----


def test_the_image_is_unchanged_above_the_caption() -> None:
    drawn = draw_caption(CAT, classified("cat"))
    assert drawn.mode == "RGB"
    assert drawn.width == CAT.width
    assert np.array_equal(np.asarray(drawn)[: CAT.height], np.asarray(CAT))


def test_the_caption_is_light_on_black() -> None:
    text = below(draw_caption(CAT, classified("cat")), CAT)
    assert text.max() > 200
    assert np.median(text) == 0


def test_the_input_image_is_not_modified() -> None:
    image = CAT.copy()
    draw_caption(image, classified("cat"))
    assert np.array_equal(np.asarray(image), np.asarray(CAT))


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (20, 50), (159, 90)], ids=str)
def test_small_images_are_enlarged_by_repeating_pixels(size: tuple[int, int]) -> None:
    small = CAT.resize(size)
    factor = -(-MIN_SIDE // max(size))
    drawn = np.asarray(draw_caption(small, classified("cat")))
    left = (drawn.shape[1] - factor * size[0]) // 2
    expected = np.asarray(small).repeat(factor, axis=0).repeat(factor, axis=1)
    rows, columns = expected.shape[:2]
    assert drawn.shape[1] >= MIN_SIDE
    assert np.array_equal(drawn[:rows, left : left + columns], expected)


def test_the_margins_of_a_narrow_image_are_black() -> None:
    narrow = CAT.crop((0, 0, 60, 300))
    drawn = np.asarray(draw_caption(narrow, classified("cat")))
    assert drawn.shape[1] == MIN_SIDE
    assert np.array_equal(drawn[:300, 50:110], np.asarray(narrow))
    assert not drawn[:300, :50].any()
    assert not drawn[:300, 110:].any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_images_of_any_mode_become_rgb(mode: str) -> None:
    image = CAT.convert(mode)
    drawn = draw_caption(image, classified("cat"))
    shown = np.asarray(drawn)[: CAT.height]
    assert np.array_equal(shown, np.asarray(image.convert("RGB")))


# ---- long and odd names ----

ODD = st.text(st.sampled_from(string.ascii_letters + string.digits + " -_,.|/\n\t\r\0äß中\u0301"))


@given(
    st.lists(ODD.filter(bool) | ODD.map(lambda t: (t + "W") * 20), max_size=4, unique=True),
    st.sampled_from([(40, 30), (160, 120), (451, 300), (900, 40)]),
)
def test_any_text_fits_into_the_caption(names: list[str], size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 200, 30))
    many = MultiClassified(tuple(names), dict.fromkeys(names, 0.5))
    drawn = draw_caption(image, many)
    factor = max(1, -(-MIN_SIDE // max(size)))
    pixels = np.asarray(drawn)
    rows = size[1] * factor
    assert drawn.width == max(size[0] * factor, MIN_SIDE)
    assert (pixels[:rows] == (10, 200, 30)).all()
    text = pixels[rows:].max(axis=2) > 64
    assert not text[:1].any()
    assert not text[-1:].any()
    assert not text[:, : MARGIN - 1].any()
    assert not text[:, -MARGIN + 1 :].any()


def test_line_breaks_in_names_are_removed() -> None:
    lines = draw_caption(CAT, classified("a\nb\r\nc"))
    assert np.array_equal(np.asarray(lines), np.asarray(draw_caption(CAT, classified("a b c"))))


def test_a_long_name_is_shortened_before_the_score() -> None:
    middle = "m" * 200
    texts = {
        key: below(draw_caption(CAT, classified(f"{head}{middle}", score)), CAT) > 128
        for key, head, score in [("cat", "cat", 0.93), ("dog", "dog", 0.93), ("sure", "cat", 0.11)]
    }
    half = CAT.width // 2
    assert not np.array_equal(texts["cat"][:, :half], texts["dog"][:, :half])
    assert not np.array_equal(texts["cat"][:, half:], texts["sure"][:, half:])


def test_long_names_use_the_full_width() -> None:
    text = below(draw_caption(CAT, classified("n" * 300)), CAT).max(axis=(0, 2))
    assert np.flatnonzero(text > 128).max() > 0.9 * CAT.width
