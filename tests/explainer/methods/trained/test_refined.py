"""Refinement on one text: what it computes, and that nothing is left of it."""

import copy

import pytest
import torch
import torch.nn.functional as F

from explainer import Attributor
from explainer.explainers import EXPLAINERS
from explainer.faithfulness.measures import faithfulness
from explainer.methods.run import scores_of
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.refined import Refined
from tests.explainer.tools import LORA_WARNINGS, batch_of, bit_equal_logits, fresh, moved
from tests.families import TEXTS

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", EXPLAINERS)
RATE = 0.01


def attributor(kind: str = "separate", family: str = "bert", **settings: object) -> Attributor:
    model = fresh(family)
    return Attributor(model, Amortized(moved(model, kind, **settings)))


def state(attributor: Attributor) -> dict[str, torch.Tensor]:
    own = {f"explainer.{k}": v.clone() for k, v in attributor.method.explainer.state_dict().items()}
    return own | {k: v.clone() for k, v in attributor.explained.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return set(left) == set(right) and all(torch.equal(left[name], right[name]) for name in left)


@every_kind
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_the_attributor_is_left_as_it_was(kind: str, family: str) -> None:
    model = attributor(kind, family)
    before, scores, trained = state(model), model(TEXTS, target=1), model.method.explainer.trained(model.explained)
    with bit_equal_logits(model.explained):
        refined = model.refine(TEXTS[0], steps=2, target=1, learning_rate=RATE)
    assert refined.scores != scores[0].scores
    assert refined.probabilities == pytest.approx(scores[0].probabilities, abs=1e-6)
    assert same(state(model), before)
    assert model(TEXTS, target=1) == scores
    assert all(parameter.grad is None and parameter.requires_grad for parameter in trained.values())
    assert not any(
        parameter.requires_grad for name, parameter in model.explained.named_parameters() if ".lora_" not in name
    )


@every_kind
def test_also_after_an_exception(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = attributor(kind)
    before, calls = state(model), []

    def breaking(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("in the third step")
        return -logits.gather(1, target[:, None]).mean()

    monkeypatch.setattr("explainer.methods.trained.refined.prediction_destroyed", breaking)
    with pytest.raises(RuntimeError, match="third"), bit_equal_logits(model.explained):
        model.refine(TEXTS[0], learning_rate=RATE)
    assert same(state(model), before)


@every_kind
def test_no_steps_give_the_explanation_of_a_call(kind: str) -> None:
    model = attributor(kind)
    found, expected = model.refine(TEXTS[1], steps=0), model(TEXTS[1])
    assert found.scores == expected.scores
    assert found.method == "explainer, 0 steps on the text"


def test_the_steps_are_adamw_on_the_losses_of_the_paper() -> None:
    model = attributor()
    found = model.refine(TEXTS[0], steps=3, target=2, learning_rate=RATE, kept=0.7, destroyed=0.5, sparse=0.2)
    copied = copy.deepcopy(model.method.explainer).eval()
    explained, batch = model.explained, batch_of(model.explained, TEXTS[:1])
    labels, own = F.one_hot(torch.tensor([2]), 3).float(), batch.scorable[..., None]
    parameters = [p for name, p in copied.named_parameters() if p.requires_grad and not name.startswith("label.")]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    whole = explained(batch).softmax(dim=1)
    absent = explained.baseline_embedding()
    aim = whole if int(whole.argmax()) == 2 else labels
    for _ in range(3):
        scores = copied(explained, batch, labels)
        mask = scores.sigmoid()[..., None]
        kept = explained(batch, edit=lambda e, m=mask: torch.where(own, absent + m * (e - absent), e))
        rest = explained(batch, edit=lambda e, m=mask: torch.where(own, absent + (1 - m) * (e - absent), e))
        loss = 0.7 * -(aim * kept.log_softmax(dim=1)).sum()
        loss = loss + 0.5 * -torch.log(1 - rest.softmax(dim=1)[0, 2] + 1e-6)
        loss = loss + 0.2 * -torch.log(1 - mask[own]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        expected = copied(explained, batch, labels)[0]
    assert found.scores == pytest.approx(expected.tolist(), abs=1e-4)


def test_label_embeddings_and_dropout_take_no_part() -> None:
    quiet, dropping = attributor("lora", dropout=0.0), attributor("lora", dropout=0.5)
    dropping.method.explainer.train()
    found = dropping.refine(TEXTS[0], steps=2, target=1, learning_rate=RATE)
    assert dropping.method.explainer.training
    assert found.scores == quiet.refine(TEXTS[0], steps=2, target=1, learning_rate=RATE).scores


def test_a_text_s_refinement_does_not_depend_on_its_company_or_padding() -> None:
    model = attributor("lora")
    explained = model.explained
    refined = Refined(model.method.explainer, steps=2, learning_rate=RATE)
    target = torch.ones(len(TEXTS), dtype=torch.int64)
    together = scores_of(refined, explained, explained.encode(TEXTS), target)
    for i, text in enumerate(TEXTS):
        assert torch.equal(together[i], scores_of(refined, explained, explained.encode([text]), target[:1])[0])
    left = batch_of(explained, side="left")
    for row, expected in zip(left.split(refined(explained, left, target)), together, strict=True):
        assert torch.equal(row, expected)


def test_the_best_of_all_steps_is_labelled_and_is_the_best() -> None:
    model, metric = attributor(), "comprehensiveness"
    options = {"target": 1, "learning_rate": 0.3}
    best = model.refine(TEXTS[3], steps=4, select=metric, **options)
    assert best.method == "explainer, 4 steps on the text (best of 5 by comprehensiveness)"
    maps = [torch.tensor(model.refine(TEXTS[3], steps=k, **options).scores) for k in range(5)]
    texts, target = model.explained.encode([TEXTS[3]] * 6), torch.ones(6, dtype=torch.int64)
    values = faithfulness(model.explained, texts, [*maps, torch.tensor(best.scores)], target, [metric])[metric]
    assert values[5] == values[:5].max()
    assert len({tuple(values.tolist())}) > 0
    assert float(values[:5].max()) > float(values[:5].min())


def test_its_cost_counts_the_backward_passes() -> None:
    explainer = attributor().method.explainer
    assert Refined(explainer).forward_equivalents(20) == 91
    assert Refined(explainer, select="comprehensiveness").forward_equivalents(20) == 101


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="`steps` must not be negative, got -1"):
        attributor().refine("bad", steps=-1)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="`metric` must be one of"):
        attributor().refine("bad", steps=1, select="accuracy")
