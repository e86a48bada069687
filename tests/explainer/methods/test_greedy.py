"""Greedy deletion and keeping equal loops that ask the model at every step, and bound what rankings reach."""

import pytest
import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.faithfulness.measures import faithfulness
from explainer.faithfulness.perturbation import top_k
from explainer.methods import SIG, GreedyDeletion, GreedyKeeping, LeaveOneOut, Random
from explainer.methods.run import scores_of
from tests.explainer.tools import batch_of, double, encoded
from tests.families import TEXTS, explained

TARGET = torch.tensor([0, 1, 2, 0])


def probability(model: ExplainedModel, ids: Tensor, target: int) -> float:
    return model.model(input_ids=ids[None]).logits.softmax(dim=-1)[0, target].item()


def greedy(model: ExplainedModel, text: EncodedText, target: int, steps: int, deleting: bool) -> list[int]:
    """The first tokens taken, one model call a candidate."""
    ids, places, taken = text.tokens.input_ids, text.scorable.nonzero()[:, 0].tolist(), []
    for _ in range(steps):
        values = {}
        for j in set(places) - set(taken):
            chosen = torch.zeros_like(text.scorable)
            chosen[[*taken, j]] = True
            values[j] = probability(model, ids[~chosen if deleting else chosen | ~text.scorable], target)
        taken.append((min if deleting else max)(sorted(values), key=values.__getitem__))
    return taken


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
@pytest.mark.parametrize("method", [GreedyDeletion(), GreedyKeeping()], ids=lambda method: method.name)
def test_the_top_k_are_those_of_the_step_by_step_search(family: str, method: GreedyDeletion) -> None:
    model = double(family)
    texts = encoded(model, TEXTS[:2])
    found = scores_of(method, model, texts, TARGET[:2])
    for text, scores, c in zip(texts, found, TARGET.tolist(), strict=False):
        steps = text.n_scorable // 2
        order = greedy(model, text, c, steps, deleting=isinstance(method, GreedyDeletion))
        for k in range(1, steps + 1):
            assert set(top_k(scores, text.scorable, k).nonzero()[:, 0].tolist()) == set(order[:k])
        assert scores[text.scorable].sort().values.tolist() == list(range(1, text.n_scorable + 1))


def test_the_rest_keeps_the_order_of_the_last_step() -> None:
    """A search of one step ranks as leave-one-out does, which asks the same question of the logit of two classes."""
    model = double("bert")
    text = encoded(model, TEXTS[:1])[0]
    places = text.scorable.nonzero()[:, 0].tolist()
    for method in (GreedyDeletion(percent=1.0), GreedyKeeping(percent=1.0)):
        deleting = isinstance(method, GreedyDeletion)
        values = []
        for j in places:
            chosen = torch.arange(len(text)) == j
            kept = ~chosen if deleting else chosen | ~text.scorable
            values.append(probability(model, text.tokens.input_ids[kept], 2))
        order = sorted(places, key=lambda j: values[places.index(j)], reverse=not deleting)
        scores = scores_of(method, model, [text], torch.tensor([2]))[0]
        assert scores.argsort(descending=True)[: len(places)].tolist() == order


def test_they_bound_other_rankings() -> None:
    model = explained("bert")
    texts = encoded(model)
    target = model.predict([text.tokens for text in texts]).argmax(dim=1)

    def of(method: SIG, metric: str) -> float:
        return faithfulness(model, texts, scores_of(method, model, texts, target), target)[metric].mean().item()

    for other in (Random(), SIG(), LeaveOneOut()):
        assert of(GreedyDeletion(), "aopc_comprehensiveness") >= of(other, "aopc_comprehensiveness")
        assert of(GreedyKeeping(), "aopc_sufficiency") <= of(other, "aopc_sufficiency")


def test_all_texts_of_a_batch_advance_in_one_prediction_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    batch = batch_of(model)
    calls: list[int] = []
    predict = ExplainedModel.predict

    def counted(self: ExplainedModel, rows: list) -> Tensor:
        calls.append(len(rows))
        return predict(self, rows)

    monkeypatch.setattr(ExplainedModel, "predict", counted)
    GreedyDeletion()(model, batch, TARGET)
    lengths = batch.scorable.sum(dim=1).tolist()
    assert len(calls) == max(lengths) // 2
    assert sum(calls) == sum(GreedyDeletion().forward_equivalents(n) for n in lengths)


def test_tables_call_them_bounds() -> None:
    assert GreedyDeletion().label == "greedy_deletion (bound)"
    assert GreedyKeeping().label == "greedy_keeping (bound)"


def test_the_cost_is_about_three_eighths_of_n_squared() -> None:
    assert GreedyDeletion().forward_equivalents(100) == pytest.approx(3 / 8 * 100**2, rel=0.02)
    assert GreedyKeeping(percent=10.0).forward_equivalents(20) == 20 + 19
