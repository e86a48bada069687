"""Generated images: the class is in the patch that is named, and nowhere else."""

import json
import random
from pathlib import Path

import numpy as np
from PIL import Image

from explainer.data.planted_images import _CLASSES, PATCH, SIDE, planted_image, write_planted_images


def test_the_class_is_in_the_patch_that_is_named() -> None:
    draw = random.Random(0)
    for _ in range(20):
        one = planted_image(draw)
        assert one.pixels.shape == (48, 48, 3)
        rows = one.pixels.mean(axis=2).reshape(SIDE, PATCH, SIDE, PATCH).transpose(0, 2, 1, 3)
        patches = rows.reshape(SIDE * SIDE, -1)
        patches = patches - patches.mean(axis=1, keepdims=True)
        pattern = (2 * _CLASSES[one.label] - 1).ravel() / PATCH
        assert np.abs(patches @ pattern).argmax() == one.patch


def test_files_of_a_split_name_image_label_and_patch(tmp_path: Path) -> None:
    write_planted_images(tmp_path, {"train": 2, "test": 1})
    records = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    first = planted_image(random.Random(0))
    assert (records[0]["label"], records[0]["patch"]) == (first.label, first.patch)
    with Image.open(records[0]["image"]) as image:
        assert np.array_equal(np.asarray(image), first.pixels)
