"""Attention as a matplotlib figure: one row of squares per label, one square per head."""

from collections.abc import Mapping

from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

_SIDE = 1.3  # inches


def attention_figure(attention: Mapping[str, Float[Tensor, "heads seq seq"]]) -> Figure:
    """The heads of each label, all on one scale from 0 to 1.

    The colour is the square root of the attention, so that small weights are visible too.
    """
    columns = max(len(heads) for heads in attention.values())
    figure = Figure(figsize=(_SIDE * columns, 1.15 * _SIDE * len(attention)), layout="constrained")
    axes = figure.subplots(len(attention), columns, squeeze=False)
    for row, (label, heads) in zip(axes, attention.items(), strict=True):
        for axis, head in zip(row, heads, strict=False):
            axis.imshow(head.detach().cpu().float().sqrt().numpy(), vmin=0, vmax=1, cmap="magma")
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(label, fontsize=7)
    return figure
