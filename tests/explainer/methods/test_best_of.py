"""The best of several maps by a metric on the text itself."""

import pytest
import torch

from explainer.faithfulness.measures import HIGHER_IS_BETTER, METRICS, faithfulness
from explainer.methods.best_of import best_of
from tests.explainer.tools import batch_of, encoded, predicted
from tests.families import explained


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("metric", [*METRICS, "mask_lrp_aopc"])
def test_every_text_gets_its_own_best(metric: str, side: str) -> None:
    model = explained("bert")
    batch = batch_of(model, side=side)
    target = predicted(model, batch)
    candidates = torch.rand(6, *batch.input_ids.shape).masked_fill(~batch.scorable, 0.0)
    chosen = best_of(model, batch, target, candidates, metric)
    values = torch.stack([value(model, batch, target, scores, metric) for scores in candidates])
    best = values.max(dim=0).values if HIGHER_IS_BETTER[metric] else values.min(dim=0).values
    assert torch.allclose(value(model, batch, target, chosen, metric), best, atol=1e-6)
    assert (
        len({int((candidates == row).all(dim=2)[:, i].float().argmax()) for i, row in enumerate(chosen[:, None])}) > 1
    )


def value(model, batch, target, scores, metric):  # type: ignore[no-untyped-def]
    return faithfulness(model, encoded(model), batch.split(scores), target, (metric,))[metric]


def test_equal_candidates_give_the_first() -> None:
    model = explained("bert")
    batch = batch_of(model)
    once = torch.rand(batch.input_ids.shape)
    chosen = best_of(model, batch, predicted(model, batch), torch.stack([once, once + 1]), "sufficiency")
    assert torch.equal(chosen, once)


def test_an_unknown_metric_is_refused() -> None:
    model = explained("bert")
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r"`metric` must be one of .*got 'accuracy'"):
        best_of(model, batch, predicted(model, batch), torch.zeros(1, *batch.input_ids.shape), "accuracy")
