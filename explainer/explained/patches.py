"""The patches of images in the place of a text's tokens: where each lies, its pixel values, and what it is called."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.extras import import_optional

_DECIDING = (
    *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
    *("do_normalize", "image_mean", "image_std"),
)
"""The settings of an image processor that decide its pixel values."""

Pixels = Float[Tensor, "batch channels height width"]

GREY, GREY_NAME = -1, "[GREY]"
"""The id and the name of what stands in the place of a patch that is taken away: the pixel value 0, the mean after
normalisation."""


@dataclass(frozen=True)
class PatchGrid:
    """How a vision transformer cuts an image: tokens of its own in front, then the patches row by row.

    Attributes:
        n_special: tokens before the patches: the class token, and registers or a distillation token.
        height: of a patch, in pixels.
        width: of a patch, in pixels.
    """

    n_special: int
    rows: int
    columns: int
    height: int
    width: int
    channels: int

    def __len__(self) -> int:
        return self.n_special + self.rows * self.columns

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the image that the model reads."""
        return self.channels, self.rows * self.height, self.columns * self.width

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each patch in the image that the model reads, row by row."""
        corners = [(j * self.width, i * self.height) for i in range(self.rows) for j in range(self.columns)]
        return [(left, top, left + self.width, top + self.height) for left, top in corners]

    def tokens(self, pixels: Pixels) -> Float[Tensor, "batch seq values"]:
        """The pixel values of each token's patch; 0 for tokens that are no patch."""
        cut = pixels.unfold(2, self.height, self.height).unfold(3, self.width, self.width)
        patches = cut.permute(0, 2, 3, 1, 4, 5).reshape(len(pixels), self.rows * self.columns, -1)
        return torch.nn.functional.pad(patches, (0, 0, self.n_special, 0))

    def pixels(self, tokens: Float[Tensor, "batch seq values"]) -> Pixels:
        """The images of `tokens`."""
        shape = (len(tokens), self.rows, self.columns, self.channels, self.height, self.width)
        patches = tokens[:, self.n_special :].reshape(shape).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(len(tokens), *self.shape)


class PatchNames:
    """Stands where a model of texts has its text encoder and tokenizer.

    Attributes:
        max_tokens: None; all images have one size.
        pad_token_id: fills up rows of which patches are deleted.
    """

    max_tokens = None
    pad_token_id = 0

    def __init__(self, grid: PatchGrid, processor: Any) -> None:
        self.grid, self.processor = grid, processor

    @property
    def tokenizer(self) -> "PatchNames":
        return self

    @property
    def fingerprint(self) -> str:
        """A hash of how images become patches."""
        given = {} if self.processor is None else self.processor.to_dict()
        # Other entries name the processor's class, and differ between versions of transformers.
        settings = {name: given.get(name) or None for name in _DECIDING}
        return hashlib.sha256(f"{self.grid} {json.dumps(settings, sort_keys=True, default=str)}".encode()).hexdigest()

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The names of tokens: `[row,column]` of a patch, counted from 0."""
        return self._name(ids) if isinstance(ids, int) else [self._name(int(one)) for one in ids]

    def decode(self, ids: Any) -> str:
        return f"an image of {self.grid.rows} x {self.grid.columns} patches"

    def save_pretrained(self, folder: Path) -> None:
        """Write the image processor.

        Raises:
            ValueError: when there is none.
        """
        if self.processor is None:
            raise ValueError("`processor` is needed to save an image model: without it nothing can read images later.")
        self.processor.save_pretrained(folder)

    def _name(self, token: int) -> str:
        if token == GREY:
            return GREY_NAME
        if token < self.grid.n_special:
            return "[CLS]" if token == 0 else f"[SPECIAL {token}]"
        row, column = divmod(token - self.grid.n_special, self.grid.columns)
        return f"[{row},{column}]"


def read_image(image: Any, name: str) -> Any:
    """An opened image in RGB; arrays and tensors stay as they are.

    Args:
        image: a path, a PIL image or an array.
        name: of the image, for errors.

    Raises:
        ValueError: when the file does not exist or is no image, naming it.
    """
    if not isinstance(image, str | Path):
        return image.convert("RGB") if hasattr(image, "convert") else image
    pil = import_optional("PIL.Image")
    opened_by = pil.open
    if not Path(image).is_file():
        raise ValueError(f"{name} {str(image)!r}: there is no such file.")
    try:
        with opened_by(image) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, pil.DecompressionBombError) as error:
        raise ValueError(f"{name} {str(image)!r} is no image that can be read: {error}") from error


def names_of(images: Sequence[Any]) -> list[str]:
    """What the images are called: their paths, or their numbers."""
    return [str(image) if isinstance(image, str | Path) else f"image {i}" for i, image in enumerate(images)]
