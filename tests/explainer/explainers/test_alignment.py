"""Aligning two tokenizations by characters."""

import pytest
import torch

from explainer.explainers.alignment import Spans, aligned

Span = tuple[int, int, int, int]


def spans(*rows: Span) -> Spans:
    """Stretches given as (text, segment, start, end)."""
    return Spans(*torch.tensor(rows, dtype=torch.int64).view(-1, 4).T.contiguous())


@pytest.mark.parametrize(
    ("tokens", "pieces", "expected"),
    [
        ([(0, 0, 0, 4), (0, 0, 4, 9)], [(0, 0, 0, 2), (0, 0, 2, 6), (0, 0, 6, 9)], [(0, 0), (0, 1), (1, 1), (1, 2)]),
        ([(0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 1)], [(0, 0, 0, 1)], [(0, 0), (1, 0), (2, 0)]),  # bytes of a character
        ([(0, 0, 0, 1), (0, 0, 1, 3)], [(0, 0, 1, 3)], [(0, 0), (1, 0)]),  # white space goes with what follows
        ([(0, 0, 0, 2), (0, 0, 2, 3)], [(0, 0, 0, 2)], [(0, 0), (1, 0)]),  # and at the end with what precedes
        ([(0, 0, 2, 2)], [(0, 0, 0, 2), (0, 0, 2, 4)], [(0, 1)]),  # a token without characters
        ([(0, 0, 0, 2), (0, 1, 0, 2)], [(0, 0, 0, 2), (0, 1, 0, 2)], [(0, 0), (1, 1)]),  # a text and its pair
        ([(0, 0, 0, 2), (1, 0, 0, 2)], [(0, 0, 0, 2), (1, 0, 0, 2)], [(0, 0), (1, 1)]),  # two texts
        ([(0, 0, 0, 2), (1, 0, 3, 4)], [(0, 0, 0, 2), (1, 0, 0, 2)], [(0, 0), (1, 1)]),  # never a piece of another text
        ([(0, 0, 0, 2), (1, 0, 0, 1)], [(1, 0, 0, 2)], [(1, 0)]),  # a text without any piece
        ([(0, 0, 0, 1), (0, 0, 1, 2)], [(0, 0, 1, 2), (0, 0, 0, 1)], [(0, 1), (1, 0)]),  # offsets that do not rise
        ([], [(0, 0, 0, 2)], []),
        ([(0, 0, 0, 2)], [], []),
    ],
)
def test_tokens_meet_the_pieces_that_share_a_character(
    tokens: list[Span], pieces: list[Span], expected: list[tuple[int, int]]
) -> None:
    token, piece = aligned(spans(*tokens), spans(*pieces))
    assert sorted(zip(token.tolist(), piece.tolist(), strict=True)) == expected
