"""Greedy deletion and keeping equal loops that ask the model at every step, and bound what rankings reach."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target, TargetValues
from explainer.faithfulness.measures import faithfulness
from explainer.faithfulness.perturbation import top_k
from explainer.methods import SIG, AbstractMethod, GreedyDeletion, GreedyKeeping, LeaveOneOut, Random
from tests.explainer.tools import double, encoded
from tests.families import TASKS, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])


def probability(model: ExplainedModel, ids: Tensor, target: int) -> float:
    return model.model(input_ids=ids[None]).logits.softmax(dim=-1)[0, target].item()


def greedy(model: ExplainedModel, text: EncodedText, target: int, steps: int, deleting: bool) -> list[int]:
    """The first tokens taken, one model call per candidate."""
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
    attributions = method.attribute(model, texts, TARGET[:2])
    for text, scores, c in zip(texts, attributions.scores, TARGET.classes.tolist(), strict=False):
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
        scores = method.attribute(model, [text], Target.of([2])).scores[0]
        assert scores.argsort(descending=True)[: len(places)].tolist() == order


def test_they_bound_other_rankings() -> None:
    model = explained("bert")
    texts = encoded(model)
    target = model.predicted(texts)

    def of(method: AbstractMethod, metric: str) -> float:
        return faithfulness(model, method.attribute(model, texts, target))[metric].mean().item()

    for other in (Random(), SIG(), LeaveOneOut()):
        assert of(GreedyDeletion(), "aopc_comprehensiveness") >= of(other, "aopc_comprehensiveness")
        assert of(GreedyKeeping(), "aopc_sufficiency") <= of(other, "aopc_sufficiency")


def test_all_texts_of_a_batch_advance_in_one_prediction_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    calls: list[int] = []
    evaluate = ExplainedModel.evaluate

    def counted(self: ExplainedModel, sequences: list, target: Target) -> TargetValues:
        calls.append(len(sequences))
        return evaluate(self, sequences, target)

    monkeypatch.setattr(ExplainedModel, "evaluate", counted)
    GreedyDeletion().attribute(model, encoded(model), TARGET)
    lengths = [text.n_scorable for text in encoded(model)]
    assert len(calls) == max(lengths) // 2
    assert sum(calls) == sum(GreedyDeletion().forward_equivalents(n) for n in lengths)


@pytest.mark.parametrize("method", [GreedyDeletion(percent=100.0), GreedyKeeping(percent=100.0)])
def test_units_are_ranked_whole(method: AbstractMethod) -> None:
    """Sums over units are the ranks of a search that deletes or keeps units, written out."""
    model = double("bert")
    text = encoded(model, TEXTS[1:2])[0]
    text = replace(text, units=tuple(place // 3 for place in range(len(text))))
    units, deleting = text.unit_masks, isinstance(method, GreedyDeletion)
    free, order = list(range(len(units))), []
    while free:
        values = []
        for j in free:
            chosen = torch.stack([units[k] for k in [*order, j]]).any(dim=0)
            kept = ~chosen if deleting else chosen | ~text.scorable
            values.append(probability(model, text.tokens.input_ids[kept], 1))
        best = (min if deleting else max)(values)
        order.append(free.pop(values.index(best)))
    scores = method.attribute(model, [text], TARGET[1:2]).scores[0]
    assert [round(scores[units[k]].sum().item()) for k in order] == list(range(len(units), 0, -1))


def test_a_foil_is_searched_by_the_difference_of_log_probabilities() -> None:
    """Of a softmax that is the difference of the logits, so target and foil exchanged search for the opposite."""
    model = double("bert")
    text = encoded(model, TEXTS[1:2])[0]
    scores = GreedyDeletion(percent=1.0).attribute(model, [text], Target.of([0], foil=[1])).scores[0]
    places, ids = text.scorable.nonzero()[:, 0].tolist(), text.tokens.input_ids
    logits = [model.model(input_ids=ids[torch.arange(len(ids)) != j][None]).logits[0] for j in places]
    differences = {j: (of[0] - of[1]).item() for j, of in zip(places, logits, strict=True)}
    assert scores.argsort(descending=True)[: len(places)].tolist() == sorted(places, key=differences.__getitem__)


def test_a_regression_is_searched_by_its_value() -> None:
    model = explained("bert", **TASKS["regression"])
    text = encoded(model, TEXTS[1:2])[0]
    scores = GreedyDeletion(percent=1.0).attribute(model, [text], Target.of([0])).scores[0]
    places, ids = text.scorable.nonzero()[:, 0].tolist(), text.tokens.input_ids
    values = {j: model.model(input_ids=ids[torch.arange(len(ids)) != j][None]).logits.item() for j in places}
    assert scores.argmax().item() == min(places, key=values.__getitem__)


def test_tables_call_them_bounds() -> None:
    assert GreedyDeletion().label == "greedy_deletion (bound)"
    assert GreedyKeeping().label == "greedy_keeping (bound)"


def test_the_cost_is_about_three_eighths_of_n_squared() -> None:
    assert GreedyDeletion().forward_equivalents(100) == pytest.approx(3 / 8 * 100**2, rel=0.02)
    assert GreedyKeeping(percent=10.0).forward_equivalents(20) == 20 + 19
