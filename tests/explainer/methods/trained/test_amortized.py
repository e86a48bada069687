"""A trained explainer as a method: its scores, for the target, without a graph; its settings name its weights."""

import copy
import json
from pathlib import Path

import pytest
import torch

from explainer.explained import PREDICTED, ExplainedModel, Target
from explainer.explainers import AbstractMaskExplainer, SeparateExplainer, SideExplainer
from explainer.explainers.folder import save_folder
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LABEL_EXPLAINERS, LORA_WARNINGS, batch_of, encoded, fresh, moved, saved
from tests.families import explained

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", LABEL_EXPLAINERS)
MODEL = explained("bert")
TARGET = Target.of([0, 1, 2, 0])


def method(kind: type[AbstractMaskExplainer] = SeparateExplainer) -> Amortized:
    torch.manual_seed(0)
    return Amortized(kind(MODEL).eval())


def test_scores_are_the_explainer_s() -> None:
    amortized, batch = method(), batch_of(MODEL)
    expected = amortized.explainer(MODEL, batch, TARGET)
    scores = amortized.scores(MODEL, batch, TARGET)
    assert torch.equal(scores, expected.detach())
    assert not scores.requires_grad
    assert (scores[~batch.scorable] == 0).all()


def test_another_target_has_other_scores() -> None:
    amortized, batch = method(), batch_of(MODEL)
    other = Target.of([1, 2, 0, 1])
    assert not torch.allclose(amortized.scores(MODEL, batch, TARGET), amortized.scores(MODEL, batch, other))


@pytest.mark.parametrize("kind", [SeparateExplainer, SideExplainer])
def test_predicting_gives_the_answer_and_the_scores_of_a_call(kind: type[AbstractMaskExplainer]) -> None:
    amortized, batch = method(kind), batch_of(MODEL)
    readout, score = amortized.predict_and_attribute(MODEL, batch)
    assert torch.equal(readout.logits, MODEL(batch).logits)
    scores = score(TARGET)
    assert torch.equal(scores, amortized.scores(MODEL, batch, TARGET))
    assert not scores.requires_grad
    assert not readout.logits.requires_grad


@pytest.mark.parametrize("kind", [SeparateExplainer, SideExplainer])
def test_explaining_texts_is_attributing_their_prediction(kind: type[AbstractMaskExplainer]) -> None:
    amortized, texts = method(kind), encoded(MODEL)
    readout, [attributions] = amortized.explain(MODEL, texts, [Target.of([PREDICTED] * 4)])
    assert torch.equal(attributions.target.choices, readout.predicted().choices)
    alone = amortized.attribute(MODEL, texts, readout.predicted())
    for scores, expected, text in zip(attributions.scores, alone.scores, texts, strict=True):
        assert torch.equal(scores, expected)
        assert len(scores) == len(text)


def test_the_cost_is_what_the_explanation_adds_to_the_prediction() -> None:
    assert method().forward_equivalents(50) == 1
    side = SideExplainer(MODEL, width=8, rank=2, heads=2)
    assert 0 < Amortized(side).forward_equivalents(50) < 1


def test_methods_are_equal_when_their_networks_are_the_same() -> None:
    one, other = method(), method()
    assert one == Amortized(one.explainer)
    assert one != other


# On a model of its own


@every_kind
def test_a_model_of_its_own_gives_the_same_scores_and_leaves_the_other_alone(kind: str) -> None:
    own = fresh("bert")
    amortized = Amortized(moved(own, kind), own)
    before = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
    scores = amortized.attribute(MODEL, encoded(MODEL), TARGET).scores
    expected = Amortized(amortized.explainer).attribute(own, encoded(own), TARGET).scores
    assert all(torch.equal(one, other) for one, other in zip(scores, expected, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in MODEL.state_dict().items())


@every_kind
def test_the_answer_is_that_of_the_model_that_is_explained(kind: str) -> None:
    own = fresh("bert")
    amortized, other = Amortized(moved(own, kind), own), fresh("bert")
    with torch.no_grad():
        other.model.classifier.bias.add_(1.0)
    readout, score = amortized.predict_and_attribute(other, batch_of(other))
    assert torch.equal(readout.logits, other(batch_of(other)).logits)
    assert torch.equal(score(TARGET), amortized.scores(own, batch_of(own), TARGET))


@every_kind
def test_settings_name_the_weights(kind: str) -> None:
    own = fresh("bert")
    amortized = Amortized(moved(own, kind), own)
    settings = amortized.settings
    assert settings["method"] == "explainer"
    assert settings["kind"] == kind
    assert settings.items() >= amortized.explainer.settings.items()
    assert json.loads(json.dumps(settings)) == settings == amortized.settings
    with torch.no_grad():
        next(iter(amortized.explainer.trained(own).values())).flatten()[0].add_(1e-3)
    changed = amortized.settings
    assert changed.pop("weights") != settings.pop("weights")
    assert changed == settings


def test_copied_weights_have_the_same_settings() -> None:
    own = fresh("bert")
    amortized = Amortized(moved(own, "side"), own)
    assert Amortized(copy.deepcopy(amortized.explainer), own).settings == amortized.settings


def test_without_a_model_of_its_own_it_has_no_settings() -> None:
    with pytest.raises(TypeError, match=r"give it as `Amortized\(explainer, explained\)`"):
        _ = method().settings


@every_kind
def test_an_exported_explainer_is_loaded_with_its_model(kind: str, tmp_path: Path) -> None:
    model = ExplainedModel.from_pretrained(saved(MODEL, tmp_path / "model"))
    explainer = moved(model, kind)
    save_folder(model, explainer, tmp_path / "explainer")
    loaded = Amortized.load(str(tmp_path / "explainer"), batch_tokens=50).to("cpu")
    assert loaded.explained is not None
    assert loaded.explained.batch_tokens == 50
    scores = loaded.attribute(MODEL, encoded(MODEL), TARGET).scores
    expected = Amortized(explainer).attribute(model, encoded(model), TARGET).scores
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(scores, expected, strict=True))
    assert loaded.settings == Amortized(explainer, model).settings


def test_a_model_may_be_named_in_place_of_the_one_referred_to(tmp_path: Path) -> None:
    model = ExplainedModel.from_pretrained(saved(MODEL, tmp_path / "model"))
    save_folder(model, moved(model), tmp_path / "explainer")
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    loaded = Amortized.load(str(tmp_path / "explainer"), str(tmp_path / "elsewhere"))
    assert loaded.explained is not None
    assert loaded.explained.name == str(tmp_path / "elsewhere")
