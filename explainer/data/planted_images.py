"""Generated images whose class is in one known patch, so that explanations can be compared with it.

Every patch has a colour of its own and noise on it. One patch shows the class: stripes that lie, stand or slant, or a
checkerboard. A few others show two halves or a frame, which say nothing, so that contrast alone is no evidence.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from explainer.extras import import_optional

PATCH, SIDE = 8, 6
"""Pixels of a patch's side, and patches of an image's side."""

_I, _J = np.mgrid[:PATCH, :PATCH]
_CLASSES = {
    "lying": _I // 2 % 2,
    "standing": _J // 2 % 2,
    "slanting": (_I + _J) // 2 % 2,
    "checkered": (_I // 2 + _J // 2) % 2,
}
_OTHERS = (_I // 4 % 2, _J // 4 % 2, np.maximum(abs(2 * _I - 7), abs(2 * _J - 7)) // 4 % 2)
LABELS = tuple(_CLASSES)


@dataclass(frozen=True, eq=False)
class PlantedImage:
    """One image and what is known of it.

    Attributes:
        patch: the number of the patch that shows the class, row by row.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    label: str
    patch: int


def planted_image(draw: random.Random, n_others: int = 3) -> PlantedImage:
    """The next image of a generator.

    Args:
        n_others: patches with a pattern that says nothing.
    """
    noise = np.random.default_rng(draw.getrandbits(64))
    n = SIDE * SIDE
    patches = noise.uniform(70, 186, (n, 1, 1, 3)).repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    label, (planted, *others) = draw.choice(LABELS), draw.sample(range(n), 1 + n_others)
    for place, pattern in [(planted, _CLASSES[label]), *((place, draw.choice(_OTHERS)) for place in others)]:
        sign = draw.choice((-1, 1))
        patches[place] += sign * 60 * (2 * pattern[..., None] - 1)
    patches = np.clip(patches + noise.normal(0, 8, patches.shape), 0, 255)
    rows = patches.reshape(SIDE, SIDE, PATCH, PATCH, 3).transpose(0, 2, 1, 3, 4)
    return PlantedImage(rows.reshape(SIDE * PATCH, SIDE * PATCH, 3).astype(np.uint8), label, planted)


def write_planted_images(folder: Path, counts: Mapping[str, int], seed: int = 0) -> None:
    """Write PNG files, and a file SPLIT.jsonl per split with `image` (its path), `label` and `patch`.

    Args:
        counts: of the images of each split.
    """
    draw, save = random.Random(seed), import_optional("PIL.Image").fromarray
    for split, n in counts.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        records = []
        for i in range(n):
            one = planted_image(draw)
            path = folder / split / f"{i:05}.png"
            save(one.pixels).save(path)
            records.append({"image": str(path), "label": one.label, "patch": one.patch})
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
