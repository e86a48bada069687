"""Scores that another tool gave to its own pieces of a text, as scores of the explained model's tokens."""

from collections.abc import Sequence

import torch

from explainer.explained import EncodedText, ExplainedModel
from explainer.explained.tasks import TargetLike
from explainer.explanation import Explanation
from explainer.typing import TokenScores

_MARKS = str.maketrans("", "", "Ġ▁Ċ")
"""What tokenizers write for white space, which some tools leave out."""


def explanation_of(
    explained: ExplainedModel, text: EncodedText, scores: TokenScores, target: TargetLike, method: str
) -> Explanation:
    """The explanation of an encoded text by given scores; those of tokens that are not scorable are dropped.

    Raises:
        ValueError: when there is no such target, or a score is NaN or infinite.
    """
    if not torch.isfinite(scores[text.scorable]).all():
        raise ValueError(f"`scores` of {text.text!r:.60} are not all finite.")
    kept = scores.float().masked_fill(~text.scorable, 0.0)
    readout = explained.predict([text.tokens]).to("cpu")
    return Explanation.of(explained, text, kept, explained.task.target(target, 1), readout, method)


def of_tokens(
    explained: ExplainedModel, text: EncodedText, tokens: Sequence[str | int], scores: Sequence[float]
) -> TokenScores:
    """Scores of the same tokens, special ones included.

    Args:
        tokens: their ids, or what the tokenizer writes for them.

    Raises:
        ValueError: when the tokens are others than those of the explained model.
    """
    ids = text.tokens.input_ids.tolist()
    own = ids if tokens and isinstance(tokens[0], int) else explained.tokenizer.convert_ids_to_tokens(ids)
    if list(map(_plain, tokens)) != list(map(_plain, own)) or len(scores) != len(ids):
        raise ValueError(
            f"`tokens` must be those of the model, {own!r:.200}, one score each, got {list(tokens)!r:.200} with "
            f"{len(scores)} scores: was the text cut, or another tokenizer used?"
        )
    return torch.tensor([float(score) for score in scores])


def of_spans(text: EncodedText, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> TokenScores:
    """Scores of stretches of the text's characters, shared out to the scorable tokens that lie in them.

    A token gets the share of a stretch's characters (without white space) that it covers, so that sums stay.

    Args:
        spans: (start, end) characters of `text.text`.

    Raises:
        ValueError: when a stretch with a score has no token.
    """
    result = torch.zeros(len(text))
    places = [i for i, scorable in enumerate(text.scorable.tolist()) if scorable and text.segments[i] == 0]
    for (start, end), score in zip(spans, scores, strict=True):
        overlaps = {
            i: _visible(text.text, max(start, text.offsets[i][0]), min(end, text.offsets[i][1])) for i in places
        }
        total = sum(overlaps.values())
        if total == 0 and score != 0 and text.text[start:end].strip():
            raise ValueError(f"`scores` has {score:.3g} for {text.text[start:end]!r}, where the model has no token.")
        for i, overlap in overlaps.items():
            result[i] += score * overlap / total if overlap else 0.0
    return result


def spans_of(text: str, pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Where pieces that follow each other lie in the text; white space around them does not count.

    >>> spans_of("A gem.", ["", "A ", "gem", ".", ""])
    [(0, 0), (0, 1), (2, 5), (5, 6), (6, 6)]

    Raises:
        ValueError: when a piece does not come next.
    """
    found, at = [], 0
    for piece in pieces:
        bare = piece.strip()
        start = text.find(bare, at)
        if start < 0 or text[at:start].strip():
            raise ValueError(f"`data` has the piece {piece!r}, which does not follow in {text!r:.80} at {at}.")
        at = start + len(bare)
        found.append((start if bare else at, at))
    return found


def _plain(token: str | int) -> str | int:
    return token.translate(_MARKS) if isinstance(token, str) else token


def _visible(text: str, start: int, end: int) -> int:
    return len("".join(text[start:end].split())) if end > start else 0
