"""The network of the attention diffusion: maps of any size in, maps of that size out.

Every entry (q, k) carries a vector. A block mixes it with the means of its row and of its column and with the time:
work and memory grow like the map itself, n^2, whatever n is. Padding enters no mean, so a text's maps do not depend on
the texts beside it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from explainer.typing import Embeddings

_WAVES = 8
_ENTRIES = 2**14  # that a block widens at once

Pairs = Float[Tensor, "batch seq seq width"]


@dataclass(frozen=True, eq=False)
class Condition:
    """What is known of the texts, right-padded.

    `valid`: where each layer's mask lets attention through, false at padding. `replaced`: the tokens that the maps are
    to know nothing of. `hidden`: the state that enters the lowest layer, of the texts as they are.
    """

    valid: Bool[Tensor, "batch layers seq seq"]
    replaced: Bool[Tensor, "batch seq"]
    hidden: Embeddings

    @property
    def pairs(self) -> Bool[Tensor, "batch seq seq"]:
        return self.valid.any(dim=1)

    @property
    def lengths(self) -> Int64[Tensor, " batch"]:
        """A real token attends at least to itself."""
        return self.valid.any(dim=1).any(dim=2).sum(dim=1)


class Denoiser(nn.Module):
    """Row and column means beside pointwise mixing, `depth` times.

    Args:
        channels: maps of a text, layers times heads.
        hidden_size: width of the hidden states.
        width: of the vector of an entry.
        use_hidden: whether to look at the hidden states.
    """

    def __init__(self, channels: int, hidden_size: int, width: int, depth: int, use_hidden: bool) -> None:
        super().__init__()
        self.maps = nn.Linear(channels, width)
        self.relative = nn.Linear(2 * _WAVES, width)
        self.place = nn.Linear(4 * _WAVES + 2, 2 * width)
        self.content = (
            nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, 4 * width)) if use_hidden else None
        )
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        z: Float[Tensor, "batch channels seq seq"],
        t: Float[Tensor, " batch"],
        condition: Condition,
        known: Pairs | None = None,
    ) -> Float[Tensor, "batch channels seq seq"]:
        """`t` as a share of T; `known` as `self.known` gives it, for who asks of several t."""
        pairs = condition.pairs[..., None]
        known = self.known(condition, z.dtype) if known is None else known
        x = torch.einsum("bcqk,wc->bqkw", z, self.maps.weight) + (known + self.maps.bias)
        time = self.time(_waves(t * 1000).to(z.dtype))[:, None, None]
        for block in self.blocks:
            x = block(x, time, pairs)
        entries, weight = self.norm(x).flatten(1, 2).transpose(1, 2), self.out.weight.expand(len(x), -1, -1)
        return torch.baddbmm(self.out.bias[:, None], weight, entries).view_as(z)  # laid out as softmax wants it

    def known(self, condition: Condition, dtype: torch.dtype) -> Pairs:
        """What an entry knows apart from the maps: its places, what is replaced there, and what stands there."""
        seq, lengths = condition.replaced.shape[1], condition.lengths[:, None]
        at = torch.arange(seq, device=lengths.device)
        length = lengths.log().expand(-1, seq) / 5
        flags = torch.stack([condition.replaced.to(length), length], dim=-1)
        waves = [_waves(at).expand(len(lengths), -1, -1), _waves(lengths - 1 - at), flags]
        query, key = self.place(torch.cat(waves, dim=-1).to(dtype)).chunk(2, dim=-1)
        distance = self.relative(_waves(torch.arange(-seq + 1, seq, device=at.device)).to(dtype))
        relative = distance[at[:, None] - at + seq - 1]
        if self.content is None:
            return (key[:, None] + relative).add_(query[:, :, None])
        added_query, added_key, factor_query, factor_key = self.content(condition.hidden).chunk(4, dim=-1)
        query, key = query + added_query, key + added_key
        places = (key[:, None] + relative).add_(query[:, :, None])
        return places.addcmul_(factor_query[:, :, None], factor_key[:, None])


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inward = nn.Linear(width, 2 * width)
        self.row, self.column = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.time = nn.Linear(width, 2 * width)
        self.outward = nn.Linear(2 * width, width)

    def forward(
        self, x: Pairs, time: Float[Tensor, "batch 1 1 width"], pairs: Bool[Tensor, "batch seq seq 1"]
    ) -> Pairs:
        y = self.norm(x).mul_(pairs)
        rows, columns = (y.sum(dim, keepdim=True) / pairs.sum(dim, keepdim=True).clamp(min=1) for dim in (2, 1))
        rows, columns = self.row(rows) + self.time(time), self.column(columns)
        # In place and a few rows at a time: of vectors for n^2 entries, twice as wide in between, memory is the cost.
        parts = zip(*(of.split(max(_ENTRIES // (len(x) * x.shape[2]), 1), dim=1) for of in (x, y, rows)), strict=True)
        return torch.cat([x + self.outward(F.gelu(self.inward(y).add_(row).add_(columns))) for x, y, row in parts], 1)


def _waves(values: Tensor) -> Float[Tensor, "*shape waves"]:
    """Sine and cosine of a number at wavelengths from 4 to 2,000."""
    lengths = 4 * 500 ** (torch.arange(_WAVES, device=values.device) / (_WAVES - 1))
    angles = values[..., None] * (2 * math.pi / lengths)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
