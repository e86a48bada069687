"""Randomising the model and changing the target, with methods whose scores are known."""

import copy
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

from explainer.evaluation.sanity import cascading_randomisation, stages, target_change
from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.explainers import EXPLAINERS
from explainer.methods.base import AbstractBatchMethod, scorable_only
from explainer.methods.loading import load_method
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Scores
from tests.explainer.tools import bit_equal_logits, double, encoded
from tests.families import FAMILIES, TASKS, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])
STAGES = ["head", "layer_1", "layer_0", "embeddings"]
MANY = torch.tensor([True, True, False, True])  # the third text has one scorable token


@dataclass(frozen=True)
class Ramp(AbstractBatchMethod):
    """Rising scores for class 0, falling ones for the others; notes the model and the targets it saw."""

    name: ClassVar[str] = "ramp"
    models: list[ExplainedModel] = field(default_factory=list, compare=False)
    targets: list[list[int]] = field(default_factory=list, compare=False)
    weights: list[dict[str, torch.Tensor]] = field(default_factory=list, compare=False)

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        self.models.append(explained)
        self.weights.append({name: p.clone() for name, p in explained.model.named_parameters()})
        self.targets.append(target.classes.tolist())
        rising = batch.position_ids.float() + 1
        return scorable_only(torch.where(target.choices == 0, rising, -rising), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


@dataclass(frozen=True)
class Watched(Amortized):
    """A trained explainer that notes its own weights whenever it is asked."""

    seen: list[dict[str, torch.Tensor]] = field(default_factory=list, compare=False)

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        weights = self.explainer.trained(explained)
        self.seen.append({name: parameter.detach().clone() for name, parameter in weights.items()})
        return super().scores(explained, batch, target)


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_are_every_weight_once_from_the_top_down(family: str) -> None:
    model = explained(family)
    found = stages(model)
    assert list(found) == STAGES
    everything = [id(parameter) for parameters in found.values() for parameter in parameters]
    assert sorted(everything) == sorted(id(parameter) for parameter in model.model.parameters())
    names = {id(parameter): name for name, parameter in model.model.named_parameters()}
    assert any("classif" in names[id(p)] or "score" in names[id(p)] for p in found["head"])
    assert any(p is model.embedding.weight for p in found["embeddings"])
    for i, layer in enumerate(model.layers):
        assert {id(p) for p in found[f"layer_{i}"]} == {id(p) for p in layer.parameters()}


def test_each_stage_randomises_on_top_of_those_before() -> None:
    model, spy = explained("bert"), Ramp()
    cascading_randomisation(spy, model, encoded(model), TARGET)
    names = {id(p): name for name, p in model.model.named_parameters()}
    place = {names[id(p)]: stage for stage, parameters in stages(model).items() for p in parameters}
    before, *after = spy.weights
    assert len(after) == len(STAGES)
    for i, weights in enumerate(after):
        for name, weight in weights.items():
            varied = len(before[name].unique()) > 2
            if STAGES.index(place[name]) > i or not varied:
                assert torch.equal(weight, before[name])
            else:
                assert not torch.equal(weight, before[name])
            assert torch.equal(weight.flatten().sort()[0], before[name].flatten().sort()[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_itself_is_left_alone(family: str) -> None:
    model, spy = explained(family), Ramp()
    with bit_equal_logits(model):
        cascading_randomisation(spy, model, encoded(model)[:2], TARGET[:2])
    assert all(seen is not model for seen in spy.models[1:])


def test_scores_that_do_not_look_at_the_model_correlate_fully() -> None:
    model = explained("bert")
    found = cascading_randomisation(load_method("random"), model, encoded(model), TARGET)
    assert list(found) == STAGES
    for values in found.values():
        assert torch.allclose(values[MANY], torch.ones(3))
        assert values[~MANY].isnan().all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["attn_lrp", "leave_one_out"])
def test_scores_of_the_model_move(name: str, task: str) -> None:
    model = explained("llama", **TASKS[task])
    texts = encoded(model)
    found = cascading_randomisation(load_method(name), model, texts, model.predicted(texts))
    for values in found.values():
        assert (values[MANY] < 0.999).any()
        assert (values[MANY].abs() <= 1).all()


def test_the_seed_decides() -> None:
    model = double("bert")
    first, again, other = (
        cascading_randomisation(load_method("sig"), model, encoded(model), TARGET, seed=seed) for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[stage][MANY], again[stage][MANY]) for stage in STAGES)
    assert not any(torch.equal(first[stage][MANY], other[stage][MANY]) for stage in STAGES[1:])


def test_values_do_not_depend_on_the_order_of_the_texts() -> None:
    model, order = double("gpt2"), [3, 1, 0]
    texts = encoded(model)
    found = cascading_randomisation(load_method("sig"), model, texts, TARGET)
    moved = cascading_randomisation(load_method("sig"), model, [texts[i] for i in order], TARGET[order])
    assert all(torch.allclose(moved[stage], found[stage][order], atol=1e-6) for stage in STAGES)


def test_gradient_methods_run_inside_inference_mode() -> None:
    model = explained("bert")
    texts = encoded(model)[:2]
    expected = cascading_randomisation(load_method("attn_lrp"), model, texts, TARGET[:2])
    with torch.inference_mode():
        found = cascading_randomisation(load_method("attn_lrp"), model, texts, TARGET[:2])
    assert all(torch.allclose(found[stage], expected[stage]) for stage in STAGES)


@pytest.mark.parametrize("kind", ["side", "lora", "separate"])
def test_a_trained_explainer_is_asked_on_the_changed_model(kind: str) -> None:
    """Also where it reads a copy of the model, as one that was loaded does."""
    model, copied = explained("bert"), copy.deepcopy(explained("bert"))
    explainer = EXPLAINERS[kind](copied, **({"width": 8, "rank": 4, "heads": 2} if kind == "side" else {}))
    for parameter in explainer.trained(copied).values():  # a network that has learned something
        torch.nn.init.normal_(parameter, std=0.3)
    before = {name: parameter.clone() for name, parameter in explainer.trained(copied).items()}
    found = cascading_randomisation(Amortized(explainer, copied), model, encoded(model), TARGET)
    assert all(torch.equal(parameter, before[name]) for name, parameter in explainer.trained(copied).items())
    moved = [bool((values[MANY] < 0.999).any()) for values in found.values()]
    assert moved == [False] * 4 if kind == "separate" else moved[1:] == [True] * 3


def test_the_adapters_of_an_explainer_are_not_randomised() -> None:
    """LoRA matrices lie in the model's layers; what changes is the model under them."""
    model = copy.deepcopy(explained("bert"))
    explainer = EXPLAINERS["lora"](model)
    spy = Watched(explainer)
    cascading_randomisation(spy, model, encoded(model)[:1], TARGET[:1])
    assert len(spy.seen) == 1 + len(STAGES)
    assert all(torch.equal(seen[name], spy.seen[0][name]) for seen in spy.seen for name in seen)


def test_another_target_turns_the_ramp() -> None:
    model = explained("bert")
    found = target_change(Ramp(), model, encoded(model), TARGET, Target.of([1, 0, 0, 0]))
    assert found[MANY].tolist() == pytest.approx([-1, -1, 1])


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_the_other_target_is_the_runner_up(task: str) -> None:
    model, spy = explained("bert", **TASKS[task]), Ramp()
    texts = encoded(model, TEXTS[:1])
    ranks = model.predict([texts[0].tokens]).logits[0, 0].argsort(descending=True).tolist()
    for target, runner_up in ((ranks[0], ranks[1]), (ranks[1], ranks[0]), (ranks[2], ranks[0])):
        target_change(spy, model, texts, Target.of([target]))
        assert spy.targets[-2:] == [[target], [runner_up]]


def test_a_model_of_one_value_has_no_other_target() -> None:
    model = explained("bert", **TASKS["regression"])
    texts = encoded(model)
    with pytest.raises(ValueError, match="one output only"):
        target_change(Ramp(), model, texts, model.predicted(texts))
