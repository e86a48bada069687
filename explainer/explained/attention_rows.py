"""The attention of a few positions to the tokens of a text, read in an ordinary pass, without the (seq, seq) arrays.

Of an encoder-decoder it is the attention of its decoder's positions to the encoder's tokens.

A model keeps the attention that it runs with (sdpa, flash ...). What the wanted rows need is kept aside, and the
family's own eager attention is asked for them after the pass, for many layers at once, so that soft caps, windows,
grouped keys and sinks are as they should be.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from explainer.explained.attention import Attend, check_one_per_layer, edit_attention
from explainer.explained.model import ExplainedModel

AT_ONCE = 1 << 24
"""Attention weights that are computed at once, at most."""


@dataclass(frozen=True, eq=False)
class _Asked:
    """What one layer's attention was called with, of the wanted rows."""

    module: nn.Module
    eager: Any
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor
    options: dict[str, Any]

    def like(self, other: "_Asked") -> bool:
        """Whether both layers can be computed in one call: nothing but queries and keys is their own."""
        own = self.module._parameters or other.module._parameters  # such as sinks
        same = self.eager is other.eager and self.mask is other.mask and self.key.shape == other.key.shape
        return same and not own and _plain(self.options) == _plain(other.options)


class AttentionRows:
    """What `attention_rows` has read."""

    def __init__(self, explained: ExplainedModel, shares: Float[Tensor, "batch rows"]) -> None:
        layers = reading_layers(explained)
        self._place = {module: i for i, layer in enumerate(layers) for module in layer.modules()}
        self._depth, self._explained, self._shares = len(layers), explained, shares
        self._asked: dict[int, _Asked] = {}

    def add(self, asked: _Asked) -> None:
        place = self._place.get(asked.module)
        if place is not None:
            self._asked[place] = asked  # of a decoder's block, the attention to the encoder comes last

    @torch.no_grad()
    def mean(self) -> Float[Tensor, "batch heads seq"]:
        """The mean row of every head, the heads of the first layer first; in float32.

        Raises:
            ValueError: when a layer of the model has no attention, or one to several things at once.
        """
        asked = [self._asked[place] for place in sorted(self._asked)]
        if self._explained.model.config.is_encoder_decoder:
            assert len(asked) == self._depth  # one to the encoder in each block
        else:
            check_one_per_layer(self._explained.model, self._depth, [torch.Size((1, 1)) for _ in asked])
        groups: list[list[_Asked]] = []
        for one in asked:
            size = one.query.shape[:3].numel() * one.key.shape[2]
            if groups and groups[-1][0].like(one) and (len(groups[-1]) + 1) * size <= AT_ONCE:
                groups[-1].append(one)
            else:
                groups.append([one])
        return torch.cat([self._mean_of(group) for group in groups], dim=1)

    def _mean_of(self, group: Sequence[_Asked]) -> Float[Tensor, "batch heads seq"]:
        first, n = group[0], len(group)
        query, key, value = (torch.cat([getattr(one, part) for one in group]) for part in ("query", "key", "value"))
        mask = first.mask.repeat(n, 1, 1, 1)
        weights = first.eager(first.module, query, key, value, mask, **first.options)[1].float()
        shares = self._shares.to(weights.device).repeat(n, 1)
        rows = (shares[:, None, None] @ weights)[:, :, 0]
        return rows.view(n, len(self._shares), *rows.shape[1:]).transpose(0, 1).flatten(1, 2)


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
    found = AttentionRows(explained, shares)
    masks: dict[tuple[int, bool, int], tuple[Any, Tensor]] = {}  # one mask serves many layers
    across, last = bool(explained.model.config.is_encoder_decoder), int(places.max())

    def rows_of(mask: Tensor | None, query: Tensor, causal: bool, n_keys: int) -> Tensor:
        key = id(mask), causal, n_keys
        if key not in masks:
            masks[key] = mask, _rows_of(mask, places, query, causal, n_keys)
        return masks[key][1]

    def read(attend: Attend, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any):
        eager: Any = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        own = key.shape[2] == query.shape[2]  # else attention to something else than the text
        if eager is not None and (own or across):
            # As sdpa does: without a mask the layer's own direction decides.
            given = kwargs.get("is_causal")
            causal = not across and bool(getattr(module, "is_causal", True) if given is None else given)
            at = places.to(query.device)[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[3])
            if last < query.shape[2]:  # else an encoder's own attention
                wanted = query.detach().gather(2, at)
                rows = rows_of(mask, query, causal, key.shape[2])
                options = kwargs
                if isinstance(bias := kwargs.get("position_bias"), Tensor):  # T5's, of every query
                    every = bias.detach().expand(len(query), -1, -1, -1)
                    options = {
                        **kwargs,
                        "position_bias": every.gather(2, at[..., :1].expand(*at.shape[:3], bias.shape[3])),
                    }
                found.add(_Asked(module, eager, wanted, key.detach(), value[..., :1].detach(), rows, options))
        return attend(module, query, key, value, mask, **kwargs)

    with edit_attention(explained.model, read):
        yield found


def reading_layers(explained: ExplainedModel) -> list[nn.Module]:
    """The blocks in which an answer's positions attend to the text: of an encoder-decoder, those of its decoder."""
    if not explained.model.config.is_encoder_decoder:
        return explained.layers
    decoder = explained.model.base_model.get_decoder()
    lists = [list(one) for one in decoder.modules() if isinstance(one, nn.ModuleList)]
    return max(lists, key=lambda blocks: sum(len(list(block.parameters())) for block in blocks))


def _rows_of(mask: Tensor | None, places: Tensor, query: Tensor, causal: bool, seq: int) -> Tensor:
    """The rows of an attention mask as numbers that are added to the scores.

    Args:
        causal: whether a position sees nothing behind itself, where the mask does not say so.
        seq: the number of keys.
    """
    batch = len(query)
    places = places.to(query.device)
    if mask is None or mask.ndim == 2:  # no mask, or the padding alone
        columns = torch.arange(seq, device=query.device)
        allowed = (columns <= places[:, None, :, None]) | (not causal)
        allowed = allowed if mask is None else allowed & mask[:, None, None, :seq].bool()
    else:
        rows = places[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
        allowed = mask.expand(batch, -1, -1, -1).gather(2, rows)
        if allowed.dtype != torch.bool:
            return allowed
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(allowed.shape, dtype=query.dtype, device=query.device).masked_fill(~allowed, lowest)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments that can be compared: tensors, and tuples of them, by what they are."""
    return {
        name: value if isinstance(value, bool | int | float | str | None) else id(value)
        for name, value in options.items()
        if name != "position_embeddings"
    }
