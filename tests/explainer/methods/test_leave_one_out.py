"""Leave-one-out equals a loop that deletes one token at a time."""

import pytest
import torch

from explainer.explained import ExplainedModel
from explainer.methods import LeaveOneOut
from tests.explainer.tools import batch_of, double, encoded
from tests.families import FAMILIES, explained, tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_falls_on_deletion(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    target = torch.tensor([0, 1, 2, 0])
    found = batch.split(LeaveOneOut()(model, batch, target))
    for text, scores, c in zip(encoded(model), found, target.tolist(), strict=True):
        ids = text.tokens.input_ids.tolist()
        for j in text.scorable.nonzero()[:, 0].tolist():
            rows = [torch.tensor([ids]), torch.tensor([ids[:j] + ids[j + 1 :]])]
            whole, without = (model.model(input_ids=row).logits[0, c] for row in rows)
            assert scores[j].item() == pytest.approx((whole - without).item(), abs=2e-6, rel=1e-4)
        assert (scores[~text.scorable] == 0).all()


def test_a_text_of_one_token_without_specials() -> None:
    """GPT-2 and Qwen add no beginning-of-text token, so "bad" is one token and deleting it leaves nothing."""
    words = tokenizer("decoder")
    words.backend_tokenizer.post_processor = None
    model = ExplainedModel(explained("gpt2").model, words)
    together = LeaveOneOut()(model, batch_of(model, ["bad", "the film"]), torch.tensor([0, 0]))[0, 0]
    alone = LeaveOneOut()(model, batch_of(model, ["bad"]), torch.tensor([0]))[0, 0]
    assert together == pytest.approx(alone.item(), rel=1e-4)
    model.batch_tokens = 1
    assert LeaveOneOut()(model, batch_of(model, ["bad"]), torch.tensor([0]))[0, 0] == pytest.approx(
        alone.item(), rel=1e-4
    )


def test_the_cost_is_a_forward_a_token() -> None:
    assert LeaveOneOut().forward_equivalents(7) == 7
