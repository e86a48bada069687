"""Refinement on one text: the steps that it takes, and that nothing is left of it."""

import copy

import pytest
import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Readout, Target
from explainer.explainers import AbstractMaskExplainer
from explainer.faithfulness.measures import faithfulness
from explainer.methods.best_of import BestOf, HasCandidates
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.refined import Refined
from tests.explainer.tools import LABEL_EXPLAINERS, LORA_WARNINGS, batch_of, bit_equal_logits, encoded, fresh, moved
from tests.families import TASKS, TEXTS, explained

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", LABEL_EXPLAINERS)
RATE = 0.01
TARGET = Target.of([1])


def pair(
    kind: str = "separate", family: str = "bert", **settings: object
) -> tuple[ExplainedModel, AbstractMaskExplainer]:
    model = fresh(family)
    return model, moved(model, kind, **settings)


def refined(
    model: ExplainedModel,
    explainer: AbstractMaskExplainer,
    text: str = TEXTS[0],
    target: Target = TARGET,
    **settings: float,
) -> Tensor:
    """The scores of one text."""
    method = Refined(explainer, **{"learning_rate": RATE, **settings})  # type: ignore[arg-type]
    return method.attribute(model, model.encode([text]), target).scores[0]


def state(model: ExplainedModel, explainer: AbstractMaskExplainer) -> dict[str, Tensor]:
    own = {f"explainer.{name}": tensor.clone() for name, tensor in explainer.state_dict().items()}
    return own | {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return set(left) == set(right) and all(torch.equal(left[name], right[name]) for name in left)


@every_kind
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_explainer_and_model_are_left_as_they_were(kind: str, family: str) -> None:
    model, explainer = pair(kind, family)
    before, batch = state(model, explainer), batch_of(model)
    scores = Amortized(explainer).scores(model, batch, Target.of([1] * 4))
    with bit_equal_logits(model):
        assert not torch.equal(refined(model, explainer, steps=2), batch.split(scores)[0])
    assert same(state(model, explainer), before)
    assert torch.equal(Amortized(explainer).scores(model, batch, Target.of([1] * 4)), scores)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in explainer.trained(model).values())
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if ".lora_" not in name)


@every_kind
def test_also_after_an_exception(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, explainer = pair(kind)
    before, calls = state(model, explainer), []

    def breaking(readout: Readout, target: Target) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("in the third step")
        return -readout.value(target).mean()

    monkeypatch.setattr("explainer.methods.trained.refined.prediction_destroyed", breaking)
    with pytest.raises(RuntimeError, match="third"), bit_equal_logits(model):
        refined(model, explainer)
    assert same(state(model, explainer), before)


@every_kind
def test_no_steps_give_the_scores_of_the_explainer(kind: str) -> None:
    model, explainer = pair(kind)
    expected = Amortized(explainer).attribute(model, model.encode(TEXTS[:1]), TARGET).scores[0]
    assert torch.equal(refined(model, explainer, steps=0), expected)
    assert Refined(explainer, steps=0).label == "explainer, 0 steps on the text"


def test_the_steps_are_adamw_on_the_losses_of_the_paper() -> None:
    model, explainer = pair()
    scores = refined(model, explainer, target=Target.of([2]), steps=3, kept=0.7, destroyed=0.5, sparse=0.2)
    copied = copy.deepcopy(explainer).eval()
    batch, target = batch_of(model, TEXTS[:1]), Target.of([2])
    own = batch.scorable[..., None]
    parameters = [p for name, p in copied.named_parameters() if p.requires_grad and not name.startswith("label.")]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    whole = model(batch).logits[:, 0].softmax(dim=1)
    absent = model.baseline_embedding()
    wanted = whole if int(whole.argmax()) == 2 else torch.eye(3)[[2]]
    for _ in range(3):
        mask = copied(model, batch, target).sigmoid()[..., None]
        kept = model(batch, edit=lambda e, m=mask: torch.where(own, absent + m * (e - absent), e)).logits[:, 0]
        rest = model(batch, edit=lambda e, m=mask: torch.where(own, absent + (1 - m) * (e - absent), e)).logits[:, 0]
        loss = 0.7 * -(wanted * kept.log_softmax(dim=1)).sum()
        loss = loss + 0.5 * -torch.log(1 - rest.softmax(dim=1)[0, 2] + 1e-6)
        loss = loss + 0.2 * -torch.log(1 - mask[own]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        expected = copied(model, batch, target)[0]
    assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_class_embeddings_and_dropout_take_no_part() -> None:
    scores = refined(*pair("lora", dropout=0.0), steps=2)
    model, dropping = pair("lora", dropout=0.5)
    dropping.train()
    assert torch.equal(refined(model, dropping, steps=2), scores)
    assert dropping.training


def test_a_text_s_refinement_does_not_depend_on_the_others() -> None:
    model, explainer = pair("lora")
    method, target = Refined(explainer, steps=2, learning_rate=RATE), Target.of([1] * 4)
    together = method.attribute(model, encoded(model), target).scores
    for scores, text in zip(together, TEXTS, strict=True):
        assert torch.equal(scores, refined(model, explainer, text, steps=2))


@pytest.mark.parametrize("term", ["kept", "destroyed"])
def test_a_weight_of_0_is_a_pass_less(term: str) -> None:
    model, explainer = pair()
    passes: list[object] = []
    model.model.register_forward_hook(lambda *_: passes.append(None))
    refined(model, explainer, steps=3)
    both = len(passes)
    passes.clear()
    refined(model, explainer, steps=3, **{term: 0.0})
    assert both - len(passes) == 3
    assert Refined(explainer, **{term: 0.0}).forward_equivalents(20) == 61  # type: ignore[arg-type]


# Other tasks


def test_every_task_is_refined_where_its_losses_exist() -> None:
    for task, settings in TASKS.items():
        model = copy.deepcopy(explained("bert", **settings))
        explainer, target = moved(model), Target.of([0])
        without = 0.0 if model.task.link == "identity" else 1.0
        scores = refined(model, explainer, target=target, steps=2, destroyed=without)
        start = refined(model, explainer, target=target, steps=0)
        assert not torch.equal(scores, start), task


def test_a_regression_has_no_probability_to_destroy() -> None:
    model = copy.deepcopy(explained("bert", **TASKS["regression"]))
    with pytest.raises(ValueError, match="`destroyed` needs the target's probability"):
        refined(model, moved(model), target=Target.of([0]), steps=1)


# The best step


def texts_of(model: ExplainedModel) -> list[EncodedText]:
    return model.encode([TEXTS[3], TEXTS[1]])


@every_kind
def test_candidates_are_the_scores_after_every_step(kind: str) -> None:
    model, explainer = pair(kind)
    method = Refined(explainer, steps=3, learning_rate=RATE)
    assert isinstance(method, HasCandidates)
    assert method.n_candidates == 4
    candidates = method.candidates(model, texts_of(model), Target.of([1, 0]))
    assert [of_text.shape[0] for of_text in candidates] == [4, 4]
    for i, (text, c) in enumerate(((TEXTS[3], 1), (TEXTS[1], 0))):
        for steps, scores in enumerate(candidates[i]):
            assert torch.equal(scores, refined(model, explainer, text, Target.of([c]), steps=steps))


def test_the_best_of_all_steps_is_labelled_and_is_the_best() -> None:
    model, explainer = pair()
    method, metric = Refined(explainer, steps=4, learning_rate=0.3), "comprehensiveness"
    best, texts, target = BestOf(method, metric), texts_of(model)[:1], Target.of([1])
    assert best.label == "explainer, 4 steps on the text (best of 5 by comprehensiveness)"
    chosen = best.attribute(model, texts, target)
    [candidates] = method.candidates(model, texts, target)
    values = [
        float(faithfulness(model, Attributions(texts, target, [scores]), [metric])[metric])
        for scores in (*candidates, chosen.scores[0])
    ]
    assert values[5] == max(values[:5]) > min(values[:5])


def test_its_cost_counts_the_backward_passes() -> None:
    assert Refined(pair()[1]).forward_equivalents(20) == 91


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="`steps` must not be negative, got -1"):
        Refined(pair()[1], steps=-1)


def test_it_has_no_settings_to_cache_by() -> None:
    with pytest.raises(TypeError, match="known by its weights"):
        _ = Refined(pair()[1]).settings
