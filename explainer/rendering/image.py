"""An image with the scores of its patches on top: as pixels, as a matplotlib figure, and as part of a page."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from explainer.extras import import_optional
from explainer.rendering.colour import AGAINST, FOR, strengths

if TYPE_CHECKING:
    import matplotlib.figure

Picture = UInt8[np.ndarray, "height width 3"]
Table = Float[np.ndarray, "rows columns"]

OPACITY = 0.75
"""Of the colour on the patch of the strongest score: what is below stays visible."""

_SIZE = 336
"""Pixels of a shown image's longer side, at least."""


def overlay(picture: Picture, scores: Table, largest: float | None = None) -> Picture:
    """The picture in grey tones, each patch tinted by its score: orange for the target, blue against it.

    Args:
        scores: of the patches, which divide the picture evenly.
        largest: the score of full colour; by default the largest magnitude.
    """
    height, width = (side // n for side, n in zip(picture.shape[:2], scores.shape, strict=True))
    strength = np.array(strengths(scores.ravel().tolist(), largest)).reshape(scores.shape)
    wide = np.kron(strength, np.ones((height, width)))[..., None]
    tint = np.where(wide > 0, np.array(FOR, dtype=float), np.array(AGAINST, dtype=float))
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    opacity = OPACITY * np.abs(wide)
    return np.asarray(np.rint((1 - opacity) * grey + opacity * tint), dtype=np.uint8)


def enlarged(picture: Picture) -> UInt8[np.ndarray, "higher wider 3"]:
    """The picture, its pixels repeated until it is large enough to be looked at."""
    times = max(1, -(-_SIZE // max(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def png(picture: Picture) -> bytes:
    """The picture as the content of a PNG file."""
    file = BytesIO()
    import_optional("PIL.Image").fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def image_figure(pairs: Sequence[tuple[str, Picture, Table]]) -> "matplotlib.figure.Figure":
    """Each image beside itself with its scores, in rows; the caption is above.

    Args:
        pairs: caption, picture and scores of each.
    """
    kind: Any = import_optional("matplotlib.figure").Figure
    figure = kind(figsize=(6.4, 3.5 * max(len(pairs), 1)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(pairs), 2, squeeze=False)
    for (caption, picture, scores), (left, right) in zip(pairs, axes, strict=True):
        left.imshow(picture, interpolation="nearest")
        right.imshow(overlay(picture, scores), interpolation="nearest")
        left.set_title(caption, fontsize=9, loc="left", parse_math=False)
        for one in (left, right):
            one.set_axis_off()
    return figure


def image_fragment(caption: str, picture: Picture, scores: Table) -> str:
    """The image beside itself with its scores, as a part of a page that opens offline."""
    shown = "".join(
        f'<img alt="{escape(name)}" style="margin-right: 1em; image-rendering: pixelated" '
        f'src="data:image/png;base64,{b64encode(png(enlarged(one))).decode()}">'
        for name, one in (("the image", picture), ("its patches, coloured by their scores", overlay(picture, scores)))
    )
    return f'<div class="amortex"><p class="facts"><b>{escape(caption)}</b></p><p>{shown}</p></div>'
