"""The attention of a few positions to all others, read in an ordinary pass, without the (seq, seq) arrays.

A model keeps the attention that it runs with (sdpa, flash ...). Beside it, the family's own eager attention is asked
for the wanted rows alone, so that soft caps, windows, grouped keys and sinks are as they should be.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from explainer.explained.attention import Attend, check_one_per_layer, edit_attention
from explainer.explained.model import ExplainedModel


class AttentionRows:
    """What `attention_rows` has read so far."""

    def __init__(self, explained: ExplainedModel) -> None:
        self._place = {module: i for i, layer in enumerate(explained.layers) for module in layer.modules()}
        self._model, self._depth = explained.model, len(explained.layers)
        self._read: dict[int, Tensor] = {}

    def add(self, module: nn.Module, rows: Float[Tensor, "batch heads seq"]) -> None:
        place = self._place.get(module)
        if place is not None:
            self._read[place] = rows

    @property
    def mean(self) -> Float[Tensor, "batch heads seq"]:
        """The mean row of every head, the heads of the first layer first; in float32.

        Raises:
            ValueError: when a layer of the model has no attention, or one to several things at once.
        """
        read = [self._read[place] for place in sorted(self._read)]
        square = [torch.Size((1, 1)) for _ in read]
        check_one_per_layer(self._model, self._depth, square)
        return torch.cat(read, dim=1)


@contextmanager
def attention_rows(
    explained: ExplainedModel, places: Int64[Tensor, "batch rows"], shares: Float[Tensor, "batch rows"]
) -> Iterator[AttentionRows]:
    """Read, in the pass inside the block, the mean of some rows of every head's attention.

    Args:
        places: the positions that attend, of right-padded texts.
        shares: the weight of each of them; a text's weights sum to 1.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    found = AttentionRows(explained)
    masks: dict[int, tuple[Any, Tensor]] = {}  # one mask serves many layers

    def rows_of(mask: Tensor | None, query: Tensor) -> Tensor:
        if id(mask) not in masks:
            masks[id(mask)] = mask, _rows_of(mask, places, query)
        return masks[id(mask)][1]

    def read(attend: Attend, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any):
        output = attend(module, query, key, value, mask, **kwargs)
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        if eager is None or key.shape[2] != query.shape[2]:  # attention to something else than the text itself
            return output
        with torch.no_grad():
            wanted = query.gather(2, places[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3]))
            weights = eager(module, wanted, key, value[..., :1], rows_of(mask, query), **kwargs)[1]
            found.add(module, (weights.float() * shares[:, None, :, None].to(weights.device)).sum(dim=2))
        return output

    with edit_attention(explained.model, read):
        yield found


def _rows_of(mask: Tensor | None, places: Tensor, query: Tensor) -> Tensor:
    """The rows of an attention mask as numbers that are added to the scores."""
    batch, _, seq, _ = query.shape
    if mask is None or mask.ndim == 2:  # causal, and the padding alone
        columns = torch.arange(seq, device=query.device)
        allowed = columns <= places[:, None, :, None]
        allowed = allowed if mask is None else allowed & mask[:, None, None, :seq].bool()
    else:
        rows = places[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        allowed = mask.expand(batch, -1, -1, -1).gather(2, rows)
        if allowed.dtype != torch.bool:
            return allowed
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(allowed.shape, dtype=query.dtype, device=query.device).masked_fill(~allowed, lowest)
