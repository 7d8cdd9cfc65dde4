"""Damaged datasets of every format: read as they are meant, or refused in one line, or counted.

Each mutant is a small valid dataset in which one thing was changed. Reading it and checking all its
images must end within a few seconds in one of three ways: in an error of ours of one printable line
that names a file of the dataset; in what the valid dataset contains; or in something else, with a
warning where samples or annotations are missing that were not deleted.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from visiongraft.data import check
from visiongraft.data.check import check_samples
from visiongraft.errors import DataError, VisiongraftError
from visiongraft.plugins.classification.task import Classification
from visiongraft.plugins.detection.task import Detection
from visiongraft.plugins.face_embedding.task import FaceEmbedding
from visiongraft.plugins.segmentation.task import Segmentation
from visiongraft.task import Task

CPU_SECONDS = 5
WAITING_SECONDS = 60  # wall-clock time, for those that wait: the machine may be busy
LONGEST = 4_000  # characters of a message, in which a name of 5,000 is shortened
ORDINARY, EXHAUSTIVE = 15, 150  # mutants of each format

Files = dict[str, bytes]
# What a change does to the meaning of a dataset: nothing, anything, or it removes something.
Effect = Literal["same", "other", "less"]


# ---- valid datasets ----


def image(number: int, mode: str = "RGB", side: int = 12) -> bytes:
    shape = (side, side + 4, *([3] if mode == "RGB" else []))
    pixels = np.random.default_rng(number).integers(0, 255, shape, np.uint8)
    return encoded(Image.fromarray(pixels))


def encoded(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def labeled(pattern: str) -> Files:
    """Return images with a name for each class and split."""
    return {
        pattern.format(split=split, name=name, i=i): image(
            zlib.crc32(f"{split}{name}{i}".encode()) % 1000
        )
        for split, count in (("train", 3), ("val", 2))
        for name in ("cat", "dog")
        for i in range(count)
    }


def folders() -> Files:
    return labeled("{split}/{name}/é{i}.png")


def table() -> Files:
    files = labeled("images/{split}-{name}-é{i}.png")
    rows = [f"{path},{path.split('-')[1]},{path[7:].split('-')[0]}" for path in files]
    return files | {"images.csv": "\n".join(["path,label,split", *rows, ""]).encode()}


def multi_label_table() -> Files:
    files = labeled("images/{split}-{name}-{i}.png")
    rows = [f"{path}\tpet|{path.split('-')[1]}\t{path[7:].split('-')[0]}" for path in files]
    return files | {"images.tsv": "\n".join(["path\tlabels\tsplit", *rows, ""]).encode()}


def lists() -> Files:
    files = labeled("images/{split}-{name}-é{i}.png")
    for split in ("train", "val"):
        own = [path for path in files if f"/{split}-" in path]
        lines = [f"{path} {['cat', 'dog'].index(path.split('-')[1])}" for path in own]
        files[f"{split}.txt"] = "\n".join([*lines, ""]).encode()
    return files | {"classes.txt": b"cat\ndog\n"}


def coco() -> Files:
    files: Files = {}
    for split, count in (("train", 4), ("val", 2)):
        rows: dict[str, list[Any]] = {"images": [], "annotations": []}
        for i in range(count):
            files[f"{split}/é{i}.png"] = image(10 * count + i)
            rows["images"].append({"id": i, "file_name": f"é{i}.png", "height": 12, "width": 16})
            for k in range(2):
                row = {"id": 2 * i + k, "image_id": i, "category_id": k + 1, "iscrowd": 0}
                rows["annotations"].append(row | {"bbox": [1 + k, 2, 5.5, 6], "area": 33})
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = json.dumps({**rows, "categories": categories}, ensure_ascii=False, indent=1)
        files[f"annotations/instances_{split}.json"] = content.encode()
    return files


def xml(name: str) -> bytes:
    box = "<bndbox><xmin>{}</xmin><ymin>3</ymin><xmax>9</xmax><ymax>10</ymax></bndbox>"
    objects = "\n".join(
        f"<object><name>{label}</name><difficult>0</difficult>\n{box.format(i + 1)}</object>"
        for i, label in enumerate(("cat", "dog"))
    )
    size = "<size><width>16</width><height>12</height><depth>3</depth></size>"
    return f"<annotation>\n<filename>{name}</filename>\n{size}\n{objects}\n</annotation>".encode()


def voc() -> Files:
    files: Files = {}
    for split, count in (("train", 4), ("val", 2)):
        names = [f"{split}{i}" for i in range(count)]
        files[f"ImageSets/Main/{split}.txt"] = "\n".join([*names, ""]).encode()
        for i, name in enumerate(names):
            files[f"JPEGImages/{name}.png"] = image(10 * count + i)
            files[f"Annotations/{name}.xml"] = xml(f"{name}.png")
    return files


def voc_folders() -> Files:
    files: Files = {}
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            files[f"{split}/é{i}.png"] = image(10 * count + i)
            files[f"{split}/é{i}.xml"] = xml(f"é{i}.png")
    return files


def yolo() -> Files:
    files: Files = {}
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            files[f"images/{split}/é{i}.png"] = image(10 * count + i)
            files[f"labels/{split}/é{i}.txt"] = b"0 0.3 0.4 0.25 0.5\n1 0.6 0.5 0.5 0.25\n"
    return files


def yolo_yaml() -> Files:
    config = "path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames:\n  0: cat\n  1: dog\n"
    return yolo() | {"data.yaml": config.encode()}


def yolo_folders() -> Files:
    return yolo() | {"classes.txt": b"cat\ndog\n"}


def labelme() -> Files:
    files: Files = {}
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            files[f"{split}/é{i}.png"] = image(10 * count + i)
            shapes = [
                {"label": name, "points": [[x, 2], [x + 5, 2.5], [x + 5, 9], [x, 9]]}
                | {"group_id": None, "shape_type": "polygon", "flags": {}}
                for name, x in (("cat", 1), ("dog", 8))
            ]
            content = {"version": "5.4.1", "shapes": shapes, "imagePath": f"é{i}.png"}
            content |= {"imageData": None, "imageHeight": 12, "imageWidth": 16}
            text = json.dumps(content, ensure_ascii=False, indent=1)
            files[f"{split}/é{i}.json"] = text.encode()
    return files


def cvat() -> Files:
    files: Files = {}
    labels = "".join(f"<label>\n<name>{name}</name>\n</label>" for name in ("cat", "dog"))
    for split, count in (("train", 4), ("val", 2)):
        images = ""
        for i in range(count):
            files[f"{split}/é{i}.png"] = image(10 * count + i)
            images += (
                f'<image id="{i}" name="é{i}.png" width="16" height="12">\n'
                '<polygon label="cat" points="1,2;6,2.5;6,9;1,9" z_order="0"/>\n'
                '<mask label="dog" left="8" top="2" width="5" height="4" rle="3, 7, 2, 8"/>\n'
                "</image>\n"
            )
        meta = f"<meta><task><labels>{labels}</labels></task></meta>"
        text = f"<annotations>\n<version>1.1</version>\n{meta}\n{images}</annotations>"
        files[f"{split}/annotations.xml"] = text.encode()
    return files


def masks() -> Files:
    files: Files = {"classes.txt": b"ground\ncat\ndog\n"}
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            files[f"images/{split}/é{i}.png"] = image(10 * count + i)
            values = np.arange(12 * 16, dtype=np.uint8).reshape(12, 16) % 3
            files[f"masks/{split}/é{i}.png"] = encoded(Image.fromarray(values))
    return files


def color_masks() -> Files:
    files = masks()
    del files["classes.txt"]
    colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)
    values = np.arange(12 * 16).reshape(12, 16) % 3
    for path in files:
        if path.startswith("masks"):
            files[path] = encoded(Image.fromarray(colors[values]))
    return files | {"label_colors.txt": b"0 0 0 ground\n128 0 0 cat\n0 128 0 dog\n"}


def color_table() -> Files:
    files = color_masks()
    del files["label_colors.txt"]
    return files | {"class_dict.csv": b"name,r,g,b\nground,0,0,0\ncat,128,0,0\ndog,0,128,0\n"}


def numbered_masks() -> Files:
    files = masks()
    del files["classes.txt"]
    return files | {"_classes.csv": b"Pixel Value, Class\n0, ground\n1, cat\n2, dog\n"}


def lfw() -> Files:
    people = [f"P{i}" for i in range(6)]
    files = {
        f"{p}/{p}_{i:04d}.png": image(10 * k + i) for k, p in enumerate(people) for i in (1, 2, 3)
    }
    pairs = "1\t2\nP4\t1\t2\nP5\t2\t3\nP4\t1\tP5\t1\nP4\t2\tP5\t3\n"
    lists = {"people_train.txt": "P0\t3\nP1\t3\nP2\t3\nP3\t3\n", "people_val.txt": "P4\t3\nP5\t3\n"}
    return files | {n: t.encode() for n, t in (lists | {"pairs.txt": pairs}).items()}


def celeba() -> Files:
    names = [f"{i:06d}.png" for i in range(1, 13)]
    files = {f"img_align_celeba/{name}": image(i, side=60) for i, name in enumerate(names)}
    parts = [0] * 8 + [1] * 4
    rows = "".join(f"{n} {1 + i // 2}\n" for i, n in enumerate(names))
    files["identity_CelebA.txt"] = rows.encode()
    rows = "".join(f"{n} {part}\n" for n, part in zip(names, parts, strict=True))
    files["list_eval_partition.txt"] = rows.encode()
    points = "20 20 40 20 30 30 22 42 38 42"
    header = "12\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y a b c d\n"
    table = header + "".join(f"{name} {points}\n" for name in names)
    return files | {"list_landmarks_align_celeba.txt": table.encode()}


def people_with_landmarks() -> Files:
    files = {
        f"{split}/P{p + 4 * (split == 'val')}/é{i}.png": image(
            100 * (split == "val") + 10 * p + i, side=60
        )
        for split in ("train", "val")
        for p in range(2)
        for i in range(2)
    }
    points = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    columns = ",".join(f"{point}_{axis}" for point in points for axis in "xy")
    rows = [f"{path},20,20,40,20,30,30,22,42,38,42" for path in files]
    return files | {"landmarks.csv": "\n".join([f"path,{columns}", *rows, ""]).encode()}


FORMATS: dict[str, tuple[Callable[[], Files], Callable[[], Task], str]] = {
    "class folders": (folders, Classification, ""),
    "table": (table, Classification, "images.csv"),
    "multi-label table": (multi_label_table, Classification, "images.tsv"),
    "lists": (lists, Classification, ""),
    "COCO": (coco, Detection, ""),
    "VOC": (voc, Detection, ""),
    "VOC beside images": (voc_folders, Detection, ""),
    "YOLO": (yolo_yaml, Detection, "data.yaml"),
    "YOLO without YAML": (yolo_folders, Detection, ""),
    "LabelMe": (labelme, Detection, ""),
    "CVAT": (cvat, Detection, ""),
    "LabelMe as masks": (labelme, Segmentation, ""),
    "CVAT as masks": (cvat, Segmentation, ""),
    "masks": (masks, Segmentation, ""),
    "color masks": (color_masks, Segmentation, ""),
    "color masks with a table": (color_table, Segmentation, ""),
    "numbered masks": (numbered_masks, Segmentation, ""),
    "LFW": (lfw, FaceEmbedding, ""),
    "CelebA": (celeba, FaceEmbedding, ""),
    "people with landmarks": (people_with_landmarks, FaceEmbedding, ""),
}


# ---- changes ----


@dataclass(frozen=True)
class Mutant:
    """A changed dataset.

    Attributes:
        files: The contents by path; ``None`` stands for a named pipe, text for a symbolic link.
        change: What was changed, in words.
        effect: What that does to the meaning.
    """

    files: Mapping[str, bytes | str | None]
    change: str
    effect: Effect


def is_text(path: str) -> bool:
    return not path.endswith(".png")


def mutate(files: Files, seed: str) -> Mutant:
    """Change one thing in a dataset."""
    dice = random.Random(seed)
    texts = [path for path in files if is_text(path)]
    kinds = [
        change_file,
        *([change_text, change_text, change_encoding, change_value] * bool(texts)),
    ]
    kinds += [change_json] * 3 * any(path.endswith(".json") for path in files)
    kinds += [change_xml] * 3 * any(path.endswith(".xml") for path in files)
    return dice.choice(kinds)(files, dice)


def change_file(files: Files, dice: random.Random) -> Mutant:
    path = dice.choice([p for p in files if not is_text(p)] if dice.random() < 0.6 else list(files))
    content, rest = files[path], {p: c for p, c in files.items() if p != path}
    stem, suffix = os.path.splitext(path)
    flipped = bytearray(content)
    flipped[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    other_form = unicodedata.normalize("NFD", path)
    options: list[tuple[str, Mapping[str, bytes | str | None], Effect]] = [
        ("a flipped bit in", files | {path: bytes(flipped)}, "other"),
        ("cut off", files | {path: content[: dice.randrange(len(content))]}, "less"),
        ("emptied", files | {path: b""}, "less"),
        ("deleted", rest, "less"),
        ("renamed", {**rest, f"{stem}x{suffix}": content}, "other"),
        ("in upper case", {**rest, f"{stem}{suffix.upper()}": content}, "other"),
        ("decomposed", {**rest, other_form: content}, "same"),
        ("a line end in the name of", {**rest, f"{stem}\n\x1b[31m{suffix}": content}, "other"),
        ("a folder instead of", {**rest, f"{path}/inside.txt": b"x"}, "less"),
        ("a named pipe instead of", {**rest, path: None}, "less"),
        ("a device instead of", {**rest, path: "/dev/zero"}, "less"),
        ("a broken link instead of", {**rest, path: "nowhere"}, "less"),
        ("a link to itself instead of", {**rest, path: os.path.basename(path)}, "less"),
        ("random bytes instead of", files | {path: dice.randbytes(200)}, "other"),
    ]
    change, changed, effect = dice.choice(options)
    return Mutant(changed, f"{change} {path}", effect)


def change_text(files: Files, dice: random.Random) -> Mutant:
    path = dice.choice([p for p in files if is_text(p)])
    content = files[path]
    lines = content.splitlines(keepends=True)
    line, at = dice.randrange(len(lines)), dice.randrange(len(content))
    flipped = bytearray(content)
    flipped[at] ^= 1 << dice.randrange(8)
    inserted = dice.choice(
        [b"\0", b"\x1b", b"\x07", b"\x0b", b"\xc2\x85", b"\xe2\x80\xa8", b"\xff"]
    )
    options: list[tuple[str, bytes, Effect]] = [
        (f"a flipped bit at {at} of", bytes(flipped), "other"),
        (f"cut off at {at}:", content[:at], "less"),
        (f"line {line} deleted from", b"".join(lines[:line] + lines[line + 1 :]), "less"),
        (f"line {line} twice in", b"".join([*lines[: line + 1], *lines[line:]]), "other"),
        (f"{inserted!r} at {at} of", content[:at] + inserted + content[at:], "other"),
        (
            f"line {line} moved to the end of",
            b"".join([*lines[:line], *lines[line + 1 :], lines[line]]),
            "other",
        ),
        ("all lines joined in", content.replace(b"\n", b" "), "other"),
        ("backslashes in", content.replace(b"/", b"\\"), "other"),
        ("a long line at the end of", content + b"x" * 5000, "other"),
    ]
    change, changed, effect = dice.choice(options)
    return Mutant(files | {path: changed}, f"{change} {path}", effect)


def change_encoding(files: Files, dice: random.Random) -> Mutant:
    path = dice.choice([p for p in files if is_text(p)])
    text = files[path].decode()
    options = {
        "UTF-16 with a mark": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-8 with a mark": b"\xef\xbb\xbf" + files[path],
        "Latin-1": text.encode("latin-1"),
        "line ends of Windows": text.replace("\n", "\r\n").encode(),
        "line ends of old Macs": text.replace("\n", "\r").encode(),
        "decomposed text": unicodedata.normalize("NFD", text).encode(),
        "empty lines": text.replace("\n", "\n\n").encode(),
    }
    name = dice.choice(list(options))
    return Mutant(files | {path: options[name]}, f"{name} in {path}", "same")


def change_value(files: Files, dice: random.Random) -> Mutant:
    """Replace one number or word of a text."""
    path = dice.choice([p for p in files if is_text(p)])
    text = files[path].decode()
    found = list(re.finditer(r"[\w.]+", text))
    word = dice.choice(found)
    # fmt: off
    value = dice.choice([
        "-1", "0", "1e400", "nan", "9" * 30, "9" * 5000, "", "null", "no", "~", "[]", "{", "x" * 5000,
        "../../etc/passwd", "/dev/zero", "a\u0301", "\u202e", "\U0001f600", "1;2", '"', "'", "*a", "&a",
    ])
    # fmt: on
    changed = text[: word.start()] + value + text[word.end() :]
    return Mutant(files | {path: changed.encode()}, f"{word[0]} -> {value[:20]} in {path}", "other")


def change_json(files: Files, dice: random.Random) -> Mutant:
    path = dice.choice([p for p in files if p.endswith(".json")])
    content = json.loads(files[path])
    places = list(json_places(content))
    parent, key = dice.choice(places)
    old = parent[key]
    where = f"{key} = {str(old)[:30]} of {path}"
    action = dice.choice(["text", "float", "twice", "deleted", "key twice", *["other"] * 3])
    if action == "text" and not isinstance(old, (list, dict, str)):
        parent[key] = str(old)
        effect: Effect = "same"
    elif action == "float" and type(old) is int:
        parent[key] = float(old)
        effect = "same"
    elif action == "twice" and isinstance(parent, list):
        parent.insert(key, old)
        effect = "other"
    elif action == "deleted":
        del parent[key]
        effect = "less"
    elif action == "key twice" and isinstance(parent, dict):
        parent["KEY"] = dice.choice([old, 0, "x", []])
        text = json.dumps(content, ensure_ascii=False).replace('"KEY"', json.dumps(key))
        return Mutant(files | {path: text.encode()}, f"{where} twice", "other")
    else:
        action = "other"
        parent[key] = dice.choice(
            [None, [], {}, "x", -1, 10**40, True, [[]], 1e308, "\0", "\ud800"]
        )
        effect = "other"
    text = json.dumps(content)
    return Mutant(files | {path: text.encode()}, f"{action} for {where}", effect)


def json_places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from json_places(value[key])


def change_xml(files: Files, dice: random.Random) -> Mutant:
    path = dice.choice([p for p in files if p.endswith(".xml")])
    text = files[path].decode()
    element = dice.choice(list(re.finditer(r"<(\w+)>([^<]*)</\1>", text)))
    value = dice.choice(["-1", "nan", "1e400", "9" * 5000, "x", " 3 ", "3.0", "&x;", "<a/>", ""])
    # fmt: off
    options: list[tuple[str, str, Effect]] = [
        ("deleted", "", "less"),
        ("twice", element[0] * 2, "other"),
        ("in upper case", element[0].replace(element[1], element[1].upper()), "other"),
        ("with a namespace", element[0].replace(f"<{element[1]}>", f'<{element[1]} xmlns="x">'), "other"),
        (f"= {value[:20]}", element[0].replace(f">{element[2]}<", f">{value}<"), "other"),
        ("with whitespace", element[0].replace(f">{element[2]}<", f">\n {element[2]}\t<"), "same"),
        ("with an attribute", element[0].replace(f"<{element[1]}>", f'<{element[1]} a="1">'), "same"),
        ("after a comment", f"<!-- {element[0]} -->{element[0]}", "same"),
    ]
    # fmt: on
    change, new, effect = dice.choice(options)
    changed = text[: element.start()] + new + text[element.end() :]
    return Mutant(files | {path: changed.encode()}, f"{element[0]} {change} in {path}", effect)


# ---- reading and judging ----


@dataclass(frozen=True)
class Outcome:
    """What reading a dataset ended in.

    Attributes:
        error: What was raised, if anything.
        samples: Annotations by the name of the sample.
        counts: Numbers of samples and annotations.
        warnings: What was said about it.
    """

    error: BaseException | None = None
    samples: Mapping[str, str] | None = None
    counts: tuple[int, int] = (0, 0)
    warnings: frozenset[str] = frozenset()


def read(task: Task, data: Path, root: Path) -> Outcome:
    """Read a dataset and check all its images and annotations."""
    try:
        splits = task.read(data)
        checked = check_samples(splits.train, splits.validation)
        samples: dict[str, str] = {}
        annotations = total = 0
        for split, found in (("train", checked.train), ("validation", checked.validation)):
            for i in range(len(found)):
                target = found.target(i)
                name = unicodedata.normalize("NFC", found.name(i).replace(str(root), ""))
                samples[f"{split}:{name}"] = repr(target)
                annotations += count_annotations(target)
                total += 1
        lines = (*splits.warnings, *checked.report.warnings)
        warnings = frozenset(re.sub(r"\d+", "N", line.replace(str(root), "")) for line in lines)
        return Outcome(None, samples, (total, annotations), warnings)
    except Exception as error:
        return Outcome(error)


def count_annotations(target: Any) -> int:
    for name in ("boxes", "pairs"):
        if hasattr(target, name):
            return len(getattr(target, name))
    if isinstance(target, np.ndarray):
        return len(np.unique(target))
    return len(target) if isinstance(target, (tuple, list)) else 1


def write(root: Path, files: Mapping[str, bytes | str | None]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(root / path)
        elif isinstance(content, str):
            (root / path).symlink_to(content)
        else:
            (root / path).write_bytes(content)


@contextmanager
def time_limit() -> Iterator[None]:
    """Stop what waits for something, and refuse what computes for long."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"reading took {WAITING_SECONDS} s")

    before, begun = signal.signal(signal.SIGALRM, stop), time.process_time()
    signal.alarm(WAITING_SECONDS)
    try:
        yield
        used = time.process_time() - begun
        if used > CPU_SECONDS:
            raise TimeoutError(f"reading took {used:.1f} s of CPU time")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(valid: Outcome, found: Outcome, effect: Effect, root: Path) -> str:
    """Return what is wrong with the outcome of a mutant, given that of the valid dataset."""
    if found.error is not None:
        message = str(found.error)
        if not isinstance(found.error, VisiongraftError):
            return f"raised {found.error!r}"
        if not message.isprintable() or len(message) > LONGEST:
            return f"raised more than one printable line: {message!r}"
        of_all = re.match(
            r"the (training|validation) split|the dataset|there are too few classes|training requires|"
            r"\d+ identities are in|\d+ images have no landmarks",
            message,
        )
        return "" if str(root) in message or of_all else f"names no file: {message}"
    if found.samples == valid.samples:
        return ""
    told = found.warnings - valid.warnings
    unprintable = [line for line in told if not line.isprintable() or len(line) > LONGEST]
    if unprintable:
        return f"warns in more than one printable line: {unprintable[0]!r}"
    if effect == "same" and not told:
        return f"silently changed {difference(valid, found)}"
    if effect == "other" and found.counts != valid.counts and not told:
        return f"silently has {found.counts} instead of {valid.counts} samples and annotations"
    return ""


def difference(valid: Outcome, found: Outcome) -> str:
    one, other = dict(valid.samples or {}), dict(found.samples or {})
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return f"{len(keys)} samples: {keys[0]}: {one.get(keys[0])} -> {other.get(keys[0])}"


def try_mutants(name: str, seeds: range, folder: Path) -> list[str]:
    """Return one line for each mutant of a format that is not read as it should be."""
    make, task, data = FORMATS[name]
    files = make()
    write(folder / "valid", files)
    valid = read(task(), folder / "valid" / data, folder / "valid")
    if valid.error is not None:
        raise valid.error
    problems = []
    for seed in seeds:
        mutant, root = mutate(files, f"{name} {seed}"), folder / f"mutant{seed}"
        write(root, mutant.files)
        try:
            with time_limit():
                found = read(task(), root / data, root)
        except TimeoutError as error:
            found = Outcome(error)
        problem = judge(valid, found, mutant.effect, root)
        if problem:
            problems.append(f"{name} {seed}, {mutant.change}: {problem}")
    return problems


@pytest.fixture(autouse=True)
def keep_what_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop and count unreadable images instead of refusing small datasets because of one."""
    monkeypatch.setattr(check, "UNREADABLE_LIMIT", 0.5)


@pytest.mark.parametrize("name", FORMATS)
def test_no_mutant_fails_otherwise_hangs_or_loses_data_silently(name: str, tmp_path: Path) -> None:
    assert try_mutants(name, range(ORDINARY), tmp_path) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", FORMATS)
def test_none_of_many_more_mutants_does(name: str, tmp_path: Path) -> None:
    assert try_mutants(name, range(1000, 1000 + EXHAUSTIVE), tmp_path) == []


# ---- the judgment itself ----


VALID = Outcome(None, {"train:a": "(1,)", "train:b": "(2, 3)"}, (2, 3))
FEWER = Outcome(None, {"train:a": "(1,)"}, (1, 1))
OTHER = Outcome(None, {"train:a": "(4,)", "train:b": "(2, 3)"}, (2, 3))
WARNED = Outcome(None, {"train:a": "(1,)"}, (1, 1), frozenset({"1 image is skipped: b"}))


@pytest.mark.parametrize(
    ("found", "effect", "problem"),
    [
        (Outcome(ValueError("x")), "other", "raised ValueError"),
        (Outcome(TimeoutError("reading took 60 s")), "other", "raised TimeoutError"),
        (Outcome(DataError("/d/a.txt: two\nlines")), "other", "more than one printable line"),
        (Outcome(DataError("/d/a.txt: \x1b[31m")), "other", "more than one printable line"),
        (Outcome(DataError("/d/" + "x" * 5000)), "other", "more than one printable line"),
        (Outcome(DataError("it is damaged")), "other", "names no file"),
        (Outcome(DataError("/d/a.txt is damaged")), "same", ""),
        (Outcome(DataError("the validation split has 1 class")), "less", ""),
        (VALID, "same", ""),
        (FEWER, "other", "silently has"),
        (FEWER, "less", ""),
        (WARNED, "other", ""),
        (WARNED, "same", ""),
        (OTHER, "other", ""),
        (OTHER, "same", "silently changed 1 samples: train:a"),
    ],
)
def test_each_fault_of_a_reader_is_noticed(found: Outcome, effect: Effect, problem: str) -> None:
    judged = judge(VALID, found, effect, Path("/d"))
    assert problem in judged and bool(problem) == bool(judged)


def test_what_waits_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "WAITING_SECONDS", 1)
    with pytest.raises(TimeoutError, match="reading took 1 s"), time_limit():
        time.sleep(30)
