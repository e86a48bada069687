"""Attention maps as a matplotlib figure: one row of squares a label."""

from collections.abc import Mapping

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

_SIDE = 1.3  # inches


def attention_figure(rows: Mapping[str, Float[Tensor, "heads seq seq"]]) -> Figure:
    """A label's heads side by side, all on one scale from 0 to 1 (the square root of attention is shown)."""
    heads = max(len(maps) for maps in rows.values())
    figure = Figure(figsize=(_SIDE * heads, 1.15 * _SIDE * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), heads, squeeze=False)
    for line, (label, maps) in zip(axes, rows.items(), strict=True):
        for axis, head in zip(line, maps, strict=False):
            axis.imshow(head.detach().cpu().float().sqrt().numpy(), vmin=0, vmax=1, cmap="magma")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, fontsize=7)
    return figure
