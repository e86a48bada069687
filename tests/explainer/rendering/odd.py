"""Explanations as no tokenizer would dare: overlapping, empty and unordered offsets, any script, any blank."""

from typing import Any

from hypothesis import strategies as st

from explainer.explanation import Explanation
from tests.explainer.explanation.test_text import example

LETTERS = st.sampled_from(
    ["a", "B", "9", "$", "<", "&", "'", "[", "映", "画", "ש", "ل", "é", "e\u0301", "😀", "👩‍🚀", "\u202e"]
)
BLANKS = st.sampled_from([" ", "  ", "\n", "\r\n", "\r", "\t", "\u2028", "\u00a0", "\x0b", "\x1b", "\u200b"])
TEXTS = st.lists(st.one_of(LETTERS, LETTERS, BLANKS), max_size=30).map("".join)
SCORES = st.one_of(st.just(0.0), st.floats(-5, 5, width=32))


@st.composite
def odd(draw: st.DrawFn, text: str | None = None, pair: bool = True) -> dict[str, Any]:
    """Changes to `example`, because checked classes cannot be built inside a strategy."""
    texts = [draw(TEXTS) if text is None else text, draw(st.none() | TEXTS) if pair else None]
    n = draw(st.integers(0, 12))
    segments = [draw(st.integers(0, 1 if texts[1] is not None else 0)) for _ in range(n)]
    offsets = [tuple(draw(st.integers(0, len(texts[segment] or ""))) for _ in range(2)) for segment in segments]
    scorable = [draw(st.booleans()) for _ in range(n)]
    scores = [draw(SCORES) if scored else 0.0 for scored in scorable]
    return {
        "text": texts[0],
        "text_pair": texts[1],
        "tokens": [draw(st.sampled_from(["##s", "Ġa", "▁", "ðŁ", '<"&'])) for _ in range(n)],
        "input_ids": [0] * n,
        "offsets": offsets,
        "scorable": scorable,
        "words_of_tokens": [draw(st.integers(0, 4)) for _ in range(n)],
        "segments": segments,
        "scores": scores,
    }


def plain(words: list[str], scores: list[float], **changes: object) -> Explanation:
    """Words with a blank between, each a token with its score."""
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    values: dict[str, object] = {
        "text": " ".join(words),
        "text_pair": None,
        "tokens": words,
        "input_ids": [7] * len(words),
        "offsets": [(start, start + len(word)) for start, word in zip(starts, words, strict=True)],
        "scorable": [True] * len(words),
        "words_of_tokens": list(range(len(words))),
        "segments": [0] * len(words),
        "scores": scores,
    }
    return example(**(values | changes))


def long(n: int = 250, strongest: int = 150) -> Explanation:
    """Words w0 w1 ... with weak scores, the one at `strongest` by far the strongest."""
    return plain([f"w{i}" for i in range(n)], [9.0 if i == strongest else 0.01 * (i % 3 - 1) for i in range(n)])
