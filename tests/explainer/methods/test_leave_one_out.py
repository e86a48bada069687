"""Leave-one-out equals a loop that deletes one token at a time."""

from dataclasses import replace

import pytest
import torch

from explainer.explained import ExplainedModel, Target
from explainer.methods import LeaveOneOut
from tests.explainer.tools import double, encoded
from tests.families import FAMILIES, TEXTS, explained, tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_falls_on_deletion(family: str) -> None:
    model = double(family)
    target = Target.of([0, 1, 2, 0])
    attributions = LeaveOneOut().attribute(model, encoded(model), target)
    for text, scores, c in zip(encoded(model), attributions.scores, target.classes.tolist(), strict=True):
        ids = text.tokens.input_ids.tolist()
        for j in text.scorable.nonzero()[:, 0].tolist():
            left = ids[:j] + ids[j + 1 :] or [model.baseline_token_id]  # without special tokens nothing may be left
            pair = [torch.tensor([ids]), torch.tensor([left])]
            whole, without = (model.model(input_ids=ids).logits[0, c] for ids in pair)
            assert scores[j].item() == pytest.approx((whole - without).item(), abs=2e-6, rel=1e-4)
        assert (scores[~text.scorable] == 0).all()


def test_a_unit_is_deleted_whole_and_its_tokens_share_the_fall() -> None:
    model = double("llama")
    text = encoded(model, TEXTS[:1])[0]
    text = replace(text, units=tuple(place // 2 for place in range(len(text))))
    scores = LeaveOneOut().attribute(model, [text], Target.of([1])).scores[0]
    ids = text.tokens.input_ids
    whole = model.model(input_ids=ids[None]).logits[0, 1]
    for unit in text.unit_masks:
        fall = whole - model.model(input_ids=ids[~unit][None]).logits[0, 1]
        assert len(set(scores[unit].tolist())) == 1
        assert scores[unit].sum().item() == pytest.approx(fall.item(), abs=2e-6, rel=1e-4)


def test_a_text_of_one_token_without_specials() -> None:
    """GPT-2 and Qwen add no beginning-of-text token, so "bad" is one token and deleting it leaves nothing."""
    model = ExplainedModel(explained("gpt2").model, tokenizer("gpt2"))
    assert len(model.encode(["bad"])[0]) == 1

    def score(texts: list[str]) -> float:
        target = Target.of([0] * len(texts))
        return LeaveOneOut().attribute(model, model.encode(texts), target).scores[0][0].item()

    alone = score(["bad"])
    assert score(["bad", "the film"]) == pytest.approx(alone, rel=1e-4)
    model.batch_tokens = 1
    assert score(["bad"]) == pytest.approx(alone, rel=1e-4)


def test_the_cost_is_a_forward_per_token() -> None:
    assert LeaveOneOut().forward_equivalents(7) == 7
