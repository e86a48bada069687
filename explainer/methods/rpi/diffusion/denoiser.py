"""The network of the attention diffusion: noised attention of any size in, a prediction of the same size out.

Every entry (query, key) of the attention matrix carries a vector. A block mixes it with the means of its row and of its
column and with the time. Work and memory grow like the attention matrix itself, whatever its size. Padding is left out
of the means, so the result for one text does not depend on the other texts of the batch.

Letters at the end of names of tensors are their dimensions:

    B texts    C channels, layers times heads    Q queries    K keys    N positions of a text    W width of the vectors
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
"""A vector for every entry (query, key)."""


@dataclass(frozen=True, eq=False)
class Condition:
    """The denoiser's information about the texts, right-padded.

    Attributes:
        valid: where each layer's mask lets attention through; false at padding.
        replaced: the tokens on whose identity the sample must not depend.
        hidden: the hidden state that enters the lowest layer, for the texts as they are.
    """

    valid: Bool[Tensor, "batch layers seq seq"]
    replaced: Bool[Tensor, "batch seq"]
    hidden: Embeddings

    @property
    def pairs(self) -> Bool[Tensor, "batch seq seq"]:
        """Entries that are valid in some layer."""
        return self.valid.any(dim=1)

    @property
    def lengths(self) -> Int64[Tensor, " batch"]:
        """Tokens of each text: every token that is no padding attends at least to itself."""
        return self.valid.any(dim=1).any(dim=2).sum(dim=1)


class Denoiser(nn.Module):
    """Row and column means and pointwise mixing, `depth` times.

    The names of the submodules are those of the saved weights.

    Args:
        channels: attention matrices per text, layers times heads.
        hidden_size: width of the hidden states.
        width: of the vector per entry.
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
        """The prediction at z_t.

        Args:
            t: the time divided by T.
            known: from `self.known`, to reuse it when denoising at several times.
        """
        pairs_BQK1 = condition.pairs[..., None]
        known_BQKW = self.known(condition, z.dtype) if known is None else known
        x_BQKW = torch.einsum("bcqk,wc->bqkw", z, self.maps.weight) + (known_BQKW + self.maps.bias)
        time_B11W = self.time(_waves(t * 1000).to(z.dtype))[:, None, None]
        for block in self.blocks:
            x_BQKW = block(x_BQKW, time_B11W, pairs_BQK1)
        entries_BWE = self.norm(x_BQKW).flatten(1, 2).transpose(1, 2)  # E = Q * K entries
        weight_BCW = self.out.weight.expand(len(x_BQKW), -1, -1)
        # A product of this form gives (batch, channels, entries) at once, the layout in which the softmax is fast.
        return torch.baddbmm(self.out.bias[:, None], weight_BCW, entries_BWE).view_as(z)

    def known(self, condition: Condition, dtype: torch.dtype) -> Pairs:
        """The part of each entry's vector that does not depend on z and t.

        It holds the positions of query and key, their distance, the length of the text, which tokens are replaced, and
        the hidden states.
        """
        seq, lengths_B1 = condition.replaced.shape[1], condition.lengths[:, None]
        at_N = torch.arange(seq, device=lengths_B1.device)
        length_BN = lengths_B1.log().expand(-1, seq) / 5
        flags_BN2 = torch.stack([condition.replaced.to(length_BN), length_BN], dim=-1)
        # Positions are counted from both ends.
        waves = [_waves(at_N).expand(len(lengths_B1), -1, -1), _waves(lengths_B1 - 1 - at_N), flags_BN2]
        query_BNW, key_BNW = self.place(torch.cat(waves, dim=-1).to(dtype)).chunk(2, dim=-1)
        # One vector per distance from -(seq - 1) to seq - 1, looked up for every entry.
        distance_DW = self.relative(_waves(torch.arange(-seq + 1, seq, device=at_N.device)).to(dtype))
        relative_QKW = distance_DW[at_N[:, None] - at_N + seq - 1]
        if self.content is None:
            return (key_BNW[:, None] + relative_QKW).add_(query_BNW[:, :, None])
        # The hidden states add to each side, and a product of both sides tells which query goes with which key.
        added_query, added_key, factor_query, factor_key = self.content(condition.hidden).chunk(4, dim=-1)
        query_BNW, key_BNW = query_BNW + added_query, key_BNW + added_key
        places_BQKW = (key_BNW[:, None] + relative_QKW).add_(query_BNW[:, :, None])
        return places_BQKW.addcmul_(factor_query[:, :, None], factor_key[:, None])


class _Block(nn.Module):
    """x + f(norm(x), the mean of its row, the mean of its column, time), with f a network of one hidden layer."""

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
        y_BQKW = self.norm(x).mul_(pairs)
        mean_BQ1W, mean_B1KW = (
            y_BQKW.sum(dim, keepdim=True) / pairs.sum(dim, keepdim=True).clamp(min=1) for dim in (2, 1)
        )
        rows, columns = self.row(mean_BQ1W) + self.time(time), self.column(mean_B1KW)  # both of width 2 W
        # The vectors of all n^2 entries, twice as wide inside, are what memory is spent on. So they are widened for a
        # few queries at a time, and in place.
        queries = max(_ENTRIES // (len(x) * x.shape[2]), 1)
        parts = zip(*(tensor.split(queries, dim=1) for tensor in (x, y_BQKW, rows)), strict=True)
        return torch.cat(
            [part + self.outward(F.gelu(self.inward(y).add_(row).add_(columns))) for part, y, row in parts], dim=1
        )


def _waves(values: Tensor) -> Float[Tensor, "*shape waves"]:
    """Sine and cosine of numbers at wavelengths from 4 to 2,000."""
    lengths = 4 * 500 ** (torch.arange(_WAVES, device=values.device) / (_WAVES - 1))
    angles = values[..., None] * (2 * math.pi / lengths)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
