"""Attributions that do not fit their texts are refused."""

import pytest
import torch

from explainer.explained import Attributions, Target
from tests.families import TEXTS, explained


def test_attributions_must_be_as_many_as_texts_and_tokens() -> None:
    texts = explained("bert").encode(TEXTS)
    scores = [torch.zeros(len(text)) for text in texts]
    target = Target.of([0] * len(texts))
    assert len(Attributions(texts, target, scores)) == len(TEXTS)
    with pytest.raises(ValueError, match="`texts`, `target` and `scores` must be as many, got 4, 4 and 3"):
        Attributions(texts, target, scores[:3])
    with pytest.raises(ValueError, match="as many, got 4, 1 and 4"):
        Attributions(texts, target[:1], scores)
    with pytest.raises(ValueError, match=r"`scores\[2\]` has 4 entries, the text has 3 tokens"):
        Attributions(texts, target, [*scores[:2], torch.zeros(4), scores[3]])


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_score_that_is_no_number_is_refused_with_its_text(broken: float) -> None:
    texts = explained("bert").encode(TEXTS)
    scores = [torch.zeros(len(text)) for text in texts]
    scores[2][1] = broken
    with pytest.raises(ValueError, match=r"`scores\[2\]` \(of 'bad'\) holds NaN or infinity"):
        Attributions(texts, Target.of([0] * len(texts)), scores)
    scores[2][1], scores[1][0] = 0.0, broken  # a special token's is not read
    assert len(Attributions(texts, Target.of([0] * len(texts)), scores)) == len(TEXTS)
