"""Odd pictures are decoded right, or refused in one line that names the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visiongraft.data import decode
from visiongraft.data.decode import decode_bytes, decode_file, printable, to_array
from visiongraft.errors import DataError


def test_a_lossless_picture_comes_back_pixel_by_pixel(photo, encode):
    assert np.array_equal(decode_bytes(encode(photo), "p"), photo)


def test_a_jpeg_is_decoded_as_pillow_decodes_it(photo, encode):
    content = encode(photo, "JPEG", quality=90)
    assert np.array_equal(decode_bytes(content, "p"), np.array(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: p.transpose(1, 0, 2)[::-1, ::-1]),
        (8, lambda p: np.rot90(p, 1)),
    ],
)
def test_each_exif_orientation_is_applied(photo, encode, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_bytes(encode(photo, exif=exif.tobytes()), "p")
    assert np.array_equal(decoded, turned(photo))


def test_damaged_exif_data_are_ignored(photo, encode):
    content = encode(photo, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00")
    assert np.array_equal(decode_bytes(content, "p"), photo)


def test_a_palette_is_looked_up(photo, encode):
    quantized = Image.fromarray(photo).quantize(16)
    assert np.array_equal(decode_bytes(encode(quantized), "p"), np.array(quantized.convert("RGB")))


def test_grey_is_repeated_in_three_channels(photo, encode):
    grey = photo[:, :, 0]
    decoded = decode_bytes(encode(grey), "p")
    assert all(np.array_equal(decoded[:, :, c], grey) for c in range(3))
    assert np.array_equal(decode_bytes(encode(grey), "p", channels=1)[:, :, 0], grey)


def test_transparency_is_laid_over_white(photo, encode):
    opacity = np.zeros((*photo.shape[:2], 1), np.uint8)
    opacity[:, :30] = 255
    content = encode(np.concatenate([photo, opacity], axis=2))
    decoded = decode_bytes(content, "p")
    assert np.array_equal(decoded[:, :30], photo[:, :30])
    assert (decoded[:, 30:] == 255).all()
    assert np.array_equal(decode_bytes(content, "p", channels=4)[:, :, 3:], opacity)


def test_16_bit_grey_is_scaled_not_clipped(encode):
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    decoded = decode_bytes(encode(levels), "p", channels=1)
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("top", [1.0, 200.0])
def test_float_grey_is_read_by_its_range(encode, top):
    values = np.array([[0.0, top / 2, top]], np.float32)
    decoded = decode_bytes(encode(values, "TIFF"), "p", channels=1)[0, :, 0]
    assert decoded.tolist() == ([0, 128, 255] if top == 1 else [0, 100, 200])


@pytest.mark.parametrize("values", [[-1.0, 2.0], [0.0, 300.0], [0.0, float("nan")]])
def test_float_grey_without_a_defined_brightness_is_refused(encode, values):
    with pytest.raises(DataError, match=r"^p: grey values from .* no defined brightness"):
        decode_bytes(encode(np.array([values], np.float32), "TIFF"), "p")


def test_cmyk_is_converted(photo, encode):
    cmyk = Image.fromarray(photo).convert("CMYK")
    decoded = decode_bytes(encode(cmyk, "TIFF"), "p")
    assert np.abs(decoded.astype(int) - photo).max() <= 1


def test_of_an_animation_the_first_picture_counts(encode):
    frames = [Image.new("L", (4, 4), level) for level in (10, 200)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode_bytes(content, "p") == 10).all()


def test_the_content_says_what_a_file_is_not_its_suffix(photo, encode, tmp_path):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encode(photo))
    assert np.array_equal(decode_file(path), photo)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: b"", r"the file is empty \(0 bytes\)"),
        (lambda c: b"I am text, not a picture", "damaged or no picture of a known type"),
        (lambda c: c[: len(c) // 2], "cannot be decoded: "),
        (lambda c: c[:60] + bytes(200) + c[260:], "cannot be decoded|damaged"),
        (lambda c: b"%!PS-Adobe-3.0 EPSF-3.0\n" + c, "damaged or no picture of a known type"),
    ],
    ids=["empty", "text", "truncated", "corrupt", "postscript"],
)
def test_what_cannot_be_decoded_is_one_line_that_names_the_file(
    photo, encode, tmp_path, spoil, words
):
    path = tmp_path / "bad.png"
    path.write_bytes(spoil(encode(photo)))
    with pytest.raises(DataError, match=words) as caught:
        decode_file(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_huge_picture_is_refused_before_it_is_decoded(encode, monkeypatch):
    content = encode(Image.new("L", (101, 100)))
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_000)
    with pytest.raises(DataError, match=r"^p: is over 10,000 pixels; scale it down"):
        decode_bytes(content, "p")


def test_a_decompression_bomb_is_refused(encode):
    content = bytearray(encode(Image.new("1", (8, 8))))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(DataError, match=r"^p: "):
        decode_bytes(bytes(content), "p")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone.jpg: cannot be read: No such file"):
        decode_file(tmp_path / "gone.jpg")


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_numbers_of_channels_are_refused(photo, channels):
    with pytest.raises(DataError, match=f"not {channels}$"):
        to_array(Image.fromarray(photo), channels)


def test_lab_colours_are_refused(encode):
    lab = Image.new("LAB", (4, 4))
    with pytest.raises(DataError, match="LAB colours are not supported"):
        decode_bytes(encode(lab, "TIFF"), "p")


def test_decoding_warns_of_nothing(encode):
    palette = Image.new("P", (4, 4))
    content = encode(palette, transparency=b"\x00" * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_bytes(content, "p")


@given(content=st.binary(max_size=200))
def test_any_bytes_give_a_picture_or_one_line(content):
    try:
        assert decode_bytes(content, "p").dtype == np.uint8
    except DataError as error:
        assert str(error).startswith("p: ") and "\n" not in str(error)


@given(name=st.text(st.characters(), max_size=20))
def test_a_printable_path_is_one_line_of_utf_8(name):
    shown = printable(name)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


def test_a_path_that_is_printable_stays_as_it_is():
    assert printable(Path("a b/ä.jpg")) == "a b/ä.jpg"
