"""Unusual images are decoded correctly, or refused in one line that names the file."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from visiongraft.data import decode
from visiongraft.data.decode import (
    FORMATS,
    MAX_PIXELS,
    SMALL_FILE_BYTES,
    decode_bytes,
    decode_file,
    open_image,
    printable,
    read_file,
    read_lines,
    read_text,
    to_array,
)
from visiongraft.errors import DataError


def raw_png(size: tuple[int, int], depth: int, color: int, rows: bytes, *more: bytes) -> bytes:
    """Write a PNG by hand, for kinds that Pillow reads but does not write."""
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    data = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(data)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


@pytest.mark.parametrize(
    ("format", "options"),
    [("BMP", {}), ("PNG", {}), ("PPM", {}), ("TIFF", {}), ("WEBP", {"lossless": True})],
)
def test_a_lossless_image_comes_back_pixel_by_pixel(photo, encode, format, options):
    decoded = decode_bytes(encode(photo, format, **options), "p")
    assert decoded.dtype == np.uint8 and np.array_equal(decoded, photo)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF"])
def test_a_lossy_image_is_decoded_as_pillow_decodes_it(photo, encode, format):
    content = encode(photo, format)
    reference = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    assert np.array_equal(decode_bytes(content, "p"), reference)


def test_pixels_may_be_written_to(photo, encode):
    for channels in (1, 3, 4):
        pixels = decode_bytes(encode(photo), "p", channels)
        pixels[:] = 7
        assert (pixels == 7).all()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
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
def test_each_exif_orientation_is_applied(photo, encode, format, orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode_bytes(encode(photo, format), "p")
    assert np.array_equal(decode_bytes(encode(photo, format, exif=exif), "p"), turned(upright))


@pytest.mark.parametrize("orientation", [0, 9, 6000])
def test_an_orientation_that_does_not_exist_is_ignored(photo, encode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_bytes(encode(photo, exif=exif), "p"), photo)


@pytest.mark.parametrize(
    "exif",
    [b"MM\x00*\xff\xff\xff\xff\x00", b"MM\x00*\x00\x00\x00\x08\x00\x09\x01\x12", b"XX"],
    ids=["offset", "cut off", "no header"],
)
def test_damaged_exif_data_are_ignored(photo, encode, exif):
    content = encode(photo, exif=b"Exif\x00\x00" + exif)
    assert np.array_equal(decode_bytes(content, "p"), photo)


def test_a_color_profile_is_not_applied(photo, encode):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert np.array_equal(decode_bytes(encode(photo, icc_profile=profile), "p"), photo)


def test_a_palette_is_converted_to_colors(photo, encode):
    quantized = Image.fromarray(photo).quantize(16)
    assert np.array_equal(decode_bytes(encode(quantized), "p"), np.array(quantized.convert("RGB")))


def test_gray_is_repeated_in_three_channels(photo, encode):
    gray = photo[:, :, 0]
    decoded = decode_bytes(encode(gray), "p")
    assert all(np.array_equal(decoded[:, :, c], gray) for c in range(3))
    assert np.array_equal(decode_bytes(encode(gray), "p", channels=1)[:, :, 0], gray)


def test_transparency_is_laid_over_white(photo, encode):
    opacity = np.zeros((*photo.shape[:2], 1), np.uint8)
    opacity[:, :30] = 255
    content = encode(np.concatenate([photo, opacity], axis=2))
    decoded = decode_bytes(content, "p")
    assert np.array_equal(decoded[:, :30], photo[:, :30])
    assert (decoded[:, 30:] == 255).all()
    assert np.array_equal(decode_bytes(content, "p", channels=4)[:, :, 3:], opacity)


@given(color=st.integers(0, 255), opacity=st.integers(0, 255))
def test_half_transparent_pixels_are_mixed_with_white(color, opacity):
    image = Image.new("RGBA", (1, 1), (color, 0, 255, opacity))
    mixed = [(c * opacity + 255 * (255 - opacity)) / 255 for c in (color, 0, 255)]
    assert np.abs(to_array(image, 3)[0, 0] - np.array(mixed)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("L", 7), ("RGB", (7, 7, 7)), ("P", 7), ("P", bytes([255] * 7 + [0])), ("1", 0)],
    ids=["gray", "color", "palette", "palette of opacities", "bits"],
)
def test_a_transparent_color_is_white_too(encode, mode, transparency):
    clear = transparency if isinstance(transparency, (int, tuple)) else 7
    image = Image.new(mode, (2, 1), clear)
    if mode == "P":
        image.putpalette([10] * 3 * 7 + [77] * 3 + [20] * 3)
    content = encode(image, transparency=transparency)
    assert (decode_bytes(content, "p") == 255).all()
    assert (decode_bytes(content, "p", channels=1) == 255).all()
    assert (decode_bytes(content, "p", channels=4)[..., 3] == 0).all()


def test_an_opaque_image_has_full_opacity(photo, encode):
    decoded = decode_bytes(encode(photo), "p", channels=4)
    assert np.array_equal(decoded[..., :3], photo) and (decoded[..., 3] == 255).all()


def test_black_and_white_is_0_and_255(encode):
    bits = np.array([[True, False, True]])
    assert decode_bytes(encode(bits), "p", channels=1)[0, :, 0].tolist() == [255, 0, 255]


def test_colors_become_gray_by_their_brightness(photo, encode):
    weights = np.array([0.299, 0.587, 0.114])  # ITU-R 601
    gray = decode_bytes(encode(photo), "p", channels=1)
    assert gray.shape == (*photo.shape[:2], 1)
    assert np.abs(gray[..., 0] - photo @ weights).max() <= 1


LEVELS = [0, 255, 256, 4660, 32768, 65535]
HIGH_BYTES = [0, 0, 1, 18, 128, 255]  # clipped to 255 it would be 0, 255, 255, ...


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_not_clipped(encode, format):
    content = encode(np.array([LEVELS], np.uint16), format)
    decoded = decode_bytes(content, "p", channels=1)
    assert decoded[0, :, 0].tolist() == HIGH_BYTES


def test_16_bit_colors_are_scaled_as_16_bit_gray_is():
    content = raw_png((2, 1), 16, 2, b"\0" + np.array(LEVELS, ">u2").tobytes())
    assert decode_bytes(content, "p").ravel().tolist() == HIGH_BYTES


def test_32_bit_gray_is_read_as_16_bit_values(encode):
    content = encode(np.array([LEVELS], np.int32), "TIFF")
    assert decode_bytes(content, "p", channels=1)[0, :, 0].tolist() == HIGH_BYTES


@pytest.mark.parametrize("level", [-1, 65_536])
def test_32_bit_gray_beyond_16_bits_is_refused(encode, level):
    with pytest.raises(DataError, match=r"^p: gray values from .* no defined brightness"):
        decode_bytes(encode(np.array([[0, level]], np.int32), "TIFF"), "p")


@pytest.mark.parametrize(
    ("values", "levels"),
    [([0, 0.5, 1], [0, 128, 255]), ([0, 1, 2], [0, 1, 2]), ([0, 99.6, 255], [0, 100, 255])],
)
def test_float_gray_is_read_by_its_range(encode, values, levels):
    content = encode(np.array([values], np.float32), "TIFF")
    assert decode_bytes(content, "p", channels=1)[0, :, 0].tolist() == levels


@pytest.mark.parametrize("values", [[-1.0, 2.0], [0.0, 256.0], [0.0, float("nan")]])
def test_float_gray_without_a_defined_brightness_is_refused(encode, values):
    with pytest.raises(DataError, match=r"^p: gray values from .* no defined brightness"):
        decode_bytes(encode(np.array([values], np.float32), "TIFF"), "p")


@pytest.mark.parametrize(
    ("format", "options"),
    [("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})],
    ids=["as it is", "inverted by Adobe"],
)
def test_cmyk_is_converted(photo, encode, format, options):
    cmyk = Image.fromarray(photo).convert("CMYK")
    decoded = decode_bytes(encode(cmyk, format, **options), "p")
    assert np.abs(decoded.astype(int) - photo).max() <= 3


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_images_in_a_file_the_first_counts(encode, format):
    frames = [Image.new("RGB", (4, 4), (level,) * 3) for level in (10, 200)]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert (decode_bytes(content, "p") == 10).all()


def test_the_type_of_a_file_is_detected_from_its_content(photo, encode, tmp_path):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encode(photo))
    assert np.array_equal(decode_file(path), photo)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: b"", r"the file is empty \(0 bytes\)"),
        (lambda c: b"I am text, not an image", "damaged or not an image of a known type"),
        (lambda c: c[: len(c) // 2], "cannot be decoded: "),
        (lambda c: c[:60] + bytes(200) + c[260:], "cannot be decoded|damaged"),
        (lambda c: b"%!PS-Adobe-3.0 EPSF-3.0\n" + c, "damaged or not an image of a known type"),
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


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.99])
def test_a_truncated_image_of_any_type_is_refused(photo, encode, format, fraction):
    content = encode(photo, format)
    assert decode_bytes(content, "p").shape == photo.shape
    with pytest.raises(DataError, match=r"^p: cannot be decoded: ") as caught:
        decode_bytes(content[: int(len(content) * fraction)], "p")
    assert "\n" not in str(caught.value)


def test_the_limit_of_pixels_is_exact(encode, monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 10_000)
    assert decode_bytes(encode(Image.new("L", (100, 100))), "p").shape == (100, 100, 3)
    with pytest.raises(DataError, match=r"^p: is over 10,000 pixels; scale it down"):
        decode_bytes(encode(Image.new("L", (101, 100))), "p")


@pytest.mark.parametrize("side", [13_342, 60_000], ids=["just too large", "refused by Pillow"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    assert side**2 > MAX_PIXELS
    with pytest.raises(DataError, match=r"^p: is over 178,000,000 pixels; scale it down"):
        decode_bytes(raw_png((side, side), 1, 0, b""), "p")


def test_an_image_just_below_the_limit_is_opened_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content = raw_png((13_341, 13_341), 1, 0, b"") + bytes(13_341**2 // 50)
        with open_image(content, "p") as image:
            assert image.size == (13_341, 13_341)


@pytest.mark.parametrize(
    ("side", "color", "padding"),
    [(13_300, 2, 0), (5_657, 2, 0), (5_657, 6, 639_000), (11_314, 0, 0)],
    ids=["black", "just too large", "just too small a file", "a mask"],
)
def test_a_small_file_that_decompresses_to_very_many_pixels_is_refused(side, color, padding):
    content = raw_png((side, side), 8, color, b"") + bytes(padding)
    with pytest.raises(
        DataError,
        match=rf"^p: is a file of [\d,]+ bytes that decompresses to {side} x {side} pixels; scale",
    ):
        decode_bytes(content, "p")


@pytest.mark.parametrize(
    ("side", "color", "padding"),
    [(5_656, 2, 0), (5_657, 6, 640_100), (11_313, 0, 0)],
    ids=["just small enough", "just large enough a file", "a mask"],
)
def test_a_large_image_is_opened(side, color, padding):
    with open_image(raw_png((side, side), 8, color, b"") + bytes(padding), "p") as image:
        assert image.size == (side, side)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK", "1", "I;16", "LA"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_large_image_is_converted_in_strips_to_the_same_values(monkeypatch, mode, channels):
    values = np.random.default_rng(0).integers(0, 256, (23, 17, 4), np.uint8)
    image = Image.fromarray(values, "RGBA")
    image = image if mode == "RGBA" else image.convert("L" if mode == "I;16" else mode)
    image = image.convert(mode)
    whole = to_array(image, channels)
    monkeypatch.setattr(decode, "STRIP_PIXELS", 40)
    assert np.array_equal(to_array(image, channels), whole)


def test_only_large_images_are_decoded_one_at_a_time(monkeypatch, encode, photo):
    entered = []

    class Lock:
        def __enter__(self):
            entered.append(1)

        def __exit__(self, *error):
            entered.append(0)

    decode_bytes(encode(photo), "p", 3, Lock())
    assert entered == []
    monkeypatch.setattr(decode, "LARGE_PIXELS", 10)
    decode_bytes(encode(photo), "p", 3, Lock())
    assert entered == [1, 0]


@pytest.mark.parametrize("read", [decode_file, read_file, read_text, read_lines])
def test_a_named_pipe_or_device_is_refused_instead_of_waiting_for_it(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read: it is a named pipe, socket"):
            read(tmp_path / name)


def test_a_text_file_far_too_large_for_its_kind_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "classes.txt", "wb") as file:
        file.truncate(SMALL_FILE_BYTES + 1)  # sparse
    with pytest.raises(DataError, match=r"it has 16,777,217 bytes, more than 16,777,216$"):
        read_lines(tmp_path / "classes.txt", SMALL_FILE_BYTES)


def test_lines_end_at_line_ends_and_not_at_other_separators_within_a_name(tmp_path):
    (tmp_path / "a.txt").write_text("a\x0bb\r\nc\u2028d\n\n e\x85f \rg", newline="")
    assert read_lines(tmp_path / "a.txt") == ["a\x0bb", "c\u2028d", "e\x85f", "g"]


def test_text_in_an_image_that_unpacks_to_far_more_is_refused():
    text = b"key\0\0" + zlib.compress(bytes(20_000_000))
    content = raw_png((1, 1), 8, 0, b"\0\7", chunk(b"zTXt", text))
    assert len(content) < 30_000
    with pytest.raises(DataError, match=r"^p: cannot be decoded: "):
        decode_bytes(content, "p")


def test_what_goes_wrong_while_an_image_is_open_is_one_line_too(photo, encode):
    for error, cause in ((OSError("a\nb"), "a b"), (KeyError(), "KeyError")):
        refused = pytest.raises(DataError, match=f"^p: cannot be decoded: {cause}$")
        with refused, open_image(encode(photo), "p"):
            raise error


@pytest.mark.parametrize("read", [decode_file, read_file])
@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.jpg", "No such file"), ("", "Is a directory"), ("a\0.jpg", "null")],
    ids=["missing", "folder", "zero byte"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, read, name, words):
    path = tmp_path / name
    with pytest.raises(DataError, match=f"cannot be read: .*{words}") as caught:
        read(path)
    assert str(caught.value).startswith(f"{printable(path)}: ")


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_numbers_of_channels_are_refused(photo, channels):
    with pytest.raises(DataError, match=f"not {channels}$"):
        to_array(Image.fromarray(photo), channels)


def test_an_image_is_converted_without_changing_it(photo):
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = 6
    assert to_array(image, 1).shape == (60, 40, 1)
    assert image.mode == "RGB" and np.array_equal(np.array(image), photo)


def test_lab_colors_are_refused(encode):
    lab = Image.new("LAB", (4, 4))
    with pytest.raises(DataError, match="LAB colors are not supported"):
        decode_bytes(encode(lab, "TIFF"), "p")


def test_decoding_warns_of_nothing(encode):
    palette = Image.new("P", (4, 4))
    content = encode(palette, transparency=b"\x00" * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_bytes(content, "p")


def test_warnings_of_others_are_still_shown(photo, encode):
    decode_bytes(encode(photo), "p")
    with pytest.warns(UserWarning, match="of mine"):
        warnings.warn("of mine", stacklevel=1)


def test_warnings_of_other_modules_are_not_repeated(photo, encode):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            decode_bytes(encode(photo), "p")
            warnings.warn("of mine", stacklevel=1)  # the same line, so shown once
    assert [str(w.message) for w in shown] == ["of mine"]


@given(content=st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_in_one_line(content):
    try:
        assert decode_bytes(content, "p").dtype == np.uint8
    except DataError as error:
        assert str(error).startswith("p: ") and "\n" not in str(error)


@given(mismatches=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1))
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_image_is_decoded_or_refused_in_one_line(photo, encode, format, mismatches):
    content = bytearray(encode(photo[:8, :8], format))
    for position, change in mismatches:
        content[position % len(content)] ^= change
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "MAX_PIXELS", 100_000)  # a damaged size may be any
        try:
            assert decode_bytes(bytes(content), "p").shape[2] == 3
        except DataError as error:
            assert str(error).startswith("p: ") and "\n" not in str(error)


@given(name=st.text(st.characters(), max_size=20))
def test_a_printable_path_is_one_line_of_utf_8(name):
    shown = printable(name)
    assert shown.isprintable()
    assert shown.encode().decode() == shown


def test_a_path_that_is_not_printable_is_escaped_where_it_is_not():
    assert printable("ä\nb\udcffc") == r"ä\nb\udcffc"


def test_a_bad_image_with_a_line_break_in_its_name_is_one_line(tmp_path):
    path = tmp_path / "a\nb.png"
    path.write_bytes(b"text")
    with pytest.raises(DataError, match=r"^[^\n]*a\\nb\.png: is damaged"):
        decode_file(path)


def test_a_path_that_is_printable_stays_as_it_is():
    assert printable(Path("a b/ä.jpg")) == "a b/ä.jpg"


def test_a_name_that_no_file_can_have_is_shortened_in_its_middle():
    shown = printable("folder/a" + "x" * 4998 + "z/image.png")
    assert shown.startswith("folder/axx") and shown.endswith("xxz/image.png")
    assert len(shown) == len("folder/") + 300 + len("/image.png") and "x...x" in shown
    longest = "/".join(["人" * 255] * 15)
    assert printable(longest) == longest


def test_lines_of_a_text_file_are_stripped_and_not_empty(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeff cat \r\n\n  \ndög\n".encode())
    assert read_lines(tmp_path / "names.txt") == ["cat", "dög"]


def test_a_file_that_is_not_utf_8_text_is_named(tmp_path):
    (tmp_path / "names.txt").write_bytes("dög".encode("latin-1"))
    with pytest.raises(DataError, match=r"names\.txt is not UTF-8 text .*; save it as UTF-8"):
        read_lines(tmp_path / "names.txt")
