"""Attention heads by relation as a matplotlib figure: how often a head attends to a relation's head word."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from explainer.attention_heads import HeadMask

_SMALL = 7  # points


def heads_by_relation(heads: HeadMask) -> Figure:
    """One panel per relation and one for fixed offsets; the heads that are kept have a frame.

    A relation's panel shows the share of hits less the share of its most frequent offset, the last panel the share of
    the head's own most frequent offset.
    """
    panels = _panels(heads.statistics)
    layers, width = len(heads.mask), len(heads.mask[0])
    figure = Figure(figsize=(1.2 + (0.22 * width + 1.0) * len(panels), 1.2 + 0.25 * layers), layout="constrained")
    for axes, (title, table) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        image = axes.imshow(table, cmap="PuOr_r", norm=TwoSlopeNorm(0.0, -1.0, 1.0))
        axes.set_title(title, fontsize=_SMALL)
        axes.set_xlabel("head", fontsize=_SMALL)
        axes.tick_params(labelsize=_SMALL)
        _frame(axes, heads.mask)
    figure.axes[0].set_ylabel("layer", fontsize=_SMALL)
    figure.colorbar(image, ax=figure.axes, shrink=0.8).ax.tick_params(labelsize=_SMALL)
    return figure


def _panels(statistics: dict[str, Any]) -> dict[str, list[list[float]]]:
    panels = {
        f"{name}, n = {relation['n']}\nhits above {relation['baseline']:.2f}": [
            [hit - relation["baseline"] for hit in layer] for layer in relation["hits"]
        ]
        for name, relation in statistics["relations"].items()
    }
    return {**panels, f"one offset, n = {statistics['n_tokens']}\nshare": statistics["offset_share"]}


def _frame(axes: Axes, mask: list[list[float]]) -> None:
    for layer, heads in enumerate(mask):
        for head in [head for head, kept in enumerate(heads) if kept]:
            axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, linewidth=1.2))
