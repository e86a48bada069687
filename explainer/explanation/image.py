"""The explanation of one image: a score per patch, the target that they are for, and the model's answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.explained import EncodedText, ExplainedImageModel
from explainer.explanation.text import Explanation, Trust
from explainer.rendering.html import page
from explainer.rendering.image import Picture, Table, enlarged, image_figure, image_fragment, overlay, png

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True, kw_only=True)
class ImageExplanation:
    """Scores for every patch of one image.

    Attributes:
        image: what the image is called: its path, or its number.
        scores: one per patch, row by row; higher = more evidence for the target, negative = evidence against it.
        patches: the number of rows and columns of patches.
        boxes: (left, top, right, bottom) of each patch, in pixels of the image as the model reads it, which is the
            given one resized and cropped.
        picture: the image as the model reads it.
        target: index of what is explained.

    The other attributes are those of `Explanation`.
    """

    image: str
    scores: list[float]
    patches: tuple[int, int]
    boxes: list[tuple[int, int, int, int]]
    picture: Picture = field(repr=False)
    target: int | list[int]
    target_label: str
    probabilities: list[float] | None
    method: str
    trust: Trust | None = None
    probability: float | None = None
    value: float | None = None
    predicted_label: str | None = None
    foil_label: str | None = None
    score: str = "logit"
    caption: str = ""

    @classmethod
    def of(cls, explained: ExplainedImageModel, text: EncodedText, explanation: Explanation) -> "ImageExplanation":
        """The explanation of an encoded image, from that of its tokens."""
        grid = explained.grid
        names = ["target", "target_label", "probabilities", "method", "trust", "probability", "value"]
        names += ["predicted_label", "foil_label", "score"]
        return cls(
            image=text.text,
            scores=explanation.scores[grid.n_special :],
            patches=(grid.rows, grid.columns),
            boxes=grid.boxes,
            picture=explained.picture(text),
            caption=f"{explanation.caption.headline} · {explanation.method}",
            **{name: getattr(explanation, name) for name in names},
        )

    def record(self) -> dict[str, Any]:
        """The JSON-able record that `explainer attribute --task image-classification` writes, without its id."""
        names = ["image", "patches", "scores", "target", "target_label", "probabilities", "method", "probability"]
        names += ["value", "predicted_label"]
        names += ["foil_label"] if self.foil_label is not None else []
        names += ["score"] if self.score != "logit" or self.foil_label is not None else []
        record = {name: getattr(self, name) for name in names} | {"patches": list(self.patches)}
        if self.trust is not None:
            record["trust"] = {**asdict(self.trust), "faithfulness": self.trust.faithfulness}
        return record

    @property
    def table(self) -> Table:
        """The scores in rows and columns of patches."""
        return np.array(self.scores, dtype=float).reshape(self.patches)

    # Showing it

    def plot(self) -> "matplotlib.figure.Figure":
        """A matplotlib figure: the image, and the image with its patches coloured by their scores."""
        return image_figure([(self.caption, self.picture, self.table)])

    def to_png(self, path: str | Path) -> None:
        """Write the image with its patches coloured by their scores."""
        Path(path).write_bytes(png(enlarged(overlay(self.picture, self.table))))

    def to_html(self, path: str | Path) -> None:
        """Write a page that opens offline."""
        write_page([self], path)

    def _repr_html_(self) -> str:
        return image_fragment(self.caption, self.picture, self.table)


def write_page(explanations: Sequence[ImageExplanation], path: str | Path) -> None:
    """Write a page of several images, which opens offline."""
    body = "\n".join(image_fragment(f"{one.image}: {one.caption}", one.picture, one.table) for one in explanations)
    Path(path).write_text(page("Patches by their scores", body), encoding="utf-8", errors="replace")
