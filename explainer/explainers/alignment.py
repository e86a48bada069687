"""Two tokenizations of the same texts: which pieces of the one have characters of which tokens of the other."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

Numbers = Int64[Tensor, " n"]
Pairs = Int64[Tensor, " pairs"]


@dataclass(frozen=True)
class Spans:
    """Stretches of several texts, in the order of the texts.

    Attributes:
        rows: the number of the text of each, rising.
        segments: 1 where a stretch is of the second text, else 0; rising within a text.
        starts: its first character.
        ends: the character after its last one.
    """

    rows: Numbers
    segments: Numbers
    starts: Numbers
    ends: Numbers

    def __len__(self) -> int:
        return len(self.rows)

    def placed(self, width: int) -> tuple[Numbers, Numbers]:
        """First and last + 1 character, counted over all texts as if each had `width` characters."""
        before = width * (2 * self.rows + self.segments)
        return before + self.starts, before + self.ends


def aligned(tokens: Spans, pieces: Spans) -> tuple[Pairs, Pairs]:
    """The pairs (token, piece) that share a character, as two lists of numbers.

    A token that shares none with any piece (white space, a character that the other tokenizer drops) goes with the next
    piece of its text, or the last one. So each token has a piece wherever its text has any.
    """
    width = 1 + max((int(span.max()) for span in (tokens.ends, pieces.ends) if len(span)), default=0)
    (start, end), (first, last) = tokens.placed(width), pieces.placed(width)
    # Candidates are a range of pieces. The running extremes hold also where a tokenizer's offsets do not rise.
    reached = last.cummax(dim=0).values
    begun = first.flip(0).cummin(dim=0).values.flip(0)
    low = torch.searchsorted(reached, start, right=True)
    count = (torch.searchsorted(begun, end) - low).clamp(min=0)
    token = torch.arange(len(tokens)).repeat_interleave(count)
    piece = torch.arange(len(token)) + (low - count.cumsum(0) + count).repeat_interleave(count)
    shared = torch.maximum(start[token], first[piece]) < torch.minimum(end[token], last[piece])
    token, piece = token[shared], piece[shared]
    alone = torch.ones(len(tokens), dtype=torch.bool).index_fill(0, token, False).nonzero()[:, 0]
    rows = tokens.rows[alone]
    lowest, highest = torch.searchsorted(pieces.rows, rows), torch.searchsorted(pieces.rows, rows, right=True) - 1
    nearest = torch.minimum(torch.searchsorted(begun, start[alone]), highest)
    found = lowest <= highest
    nearest = torch.maximum(nearest, lowest)[found]
    return torch.cat([token, alone[found]]), torch.cat([piece, nearest])
