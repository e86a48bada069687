"""Heads by relation as a matplotlib figure: how often each looks where the relation points."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from explainer.attention_heads import HeadMask

_SMALL = 7  # points


def heads_by_relation(heads: HeadMask) -> Figure:
    """A panel a relation (hits above the most frequent offset's share) and one for the fixed offset's share.

    Heads that are kept have a frame.
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
        f"{name}, n = {row['n']}\nhits above {row['baseline']:.2f}": [
            [hit - row["baseline"] for hit in layer] for layer in row["hits"]
        ]
        for name, row in statistics["relations"].items()
    }
    return {**panels, f"one offset, n = {statistics['n_tokens']}\nshare": statistics["offset_share"]}


def _frame(axes: Axes, mask: list[list[float]]) -> None:
    for layer, row in enumerate(mask):
        for head in [head for head, kept in enumerate(row) if kept]:
            axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, fill=False, linewidth=1.2))
