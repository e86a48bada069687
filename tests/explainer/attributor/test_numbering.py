"""Errors of a stream name texts by their number in the whole stream."""

import re

import pytest

from explainer.attributor import Attributor
from explainer.attributor.numbering import counted_from
from tests.families import explained


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`texts[3]` must be a string", "`texts[515]` must be a string"),
        (
            "The logits of `texts[0]` ('`texts[7]`') are",
            "The logits of `texts[512]` ('`texts[7]`') are",
        ),
        ("`text_pairs[3]` is missing", "`text_pairs[515]` is missing"),
        ("`scores[3]` (of 'a') holds NaN", "`scores[515]` (of 'a') holds NaN"),
        ("`foil` is the target of text 3 itself", "`foil` is the target of text 515 itself"),
        ("logits of `sequences[9]` ('a')", "In the texts 512 to 521: logits of `sequences[9]` ('a')"),
        ("`target` must be one of a, b", "`target` must be one of a, b"),
    ],
)
def test_the_first_number_of_a_text_is_counted_on(message: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"), counted_from(512, 10):
        raise ValueError(message)


def test_a_text_of_a_later_chunk_has_its_number_in_the_stream() -> None:
    attributor = Attributor.of(explained("bert"), "random")
    texts = ["a film", "bad", "good", "dull", "\ud800"]
    with pytest.raises(ValueError, match=r"`texts\[4\]` has one half"):
        list(attributor.stream(texts, chunk_size=3))
    foiled = attributor.stream(["a film", "bad", "good"], chunk_size=2, target=1, foil=1)
    with pytest.raises(ValueError, match="`foil` is the target of text 0 itself"):
        list(foiled)
