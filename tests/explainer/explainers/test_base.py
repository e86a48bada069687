"""What every trained explainer promises, of all kinds and on all families."""

import copy
from functools import cache

import pytest
import torch

from explainer.explained import ExplainedModel, Readout, Target, TokenBatch
from explainer.explainers import EXPLAINERS, AbstractMaskExplainer
from tests.explainer.tools import (
    LABEL_EXPLAINERS,
    LORA_WARNINGS,
    batch_of,
    bit_equal_logits,
    explainer_of,
    fresh,
    relative_error,
)
from tests.families import EXPERTS, FAMILIES, TASKS, TEXTS, TOKENIZERS, explained

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", LABEL_EXPLAINERS)
# To a small encoder the explained model's family is its tokenizer.
TOKENIZED = ["bert", *{kind: family for family, kind in TOKENIZERS.items()}.values()]
PAIRS = [(family, kind) for kind in LABEL_EXPLAINERS for family in (FAMILIES if kind != "encoder" else TOKENIZED)]
every_pair = pytest.mark.parametrize(("family", "kind"), PAIRS)
TARGET = Target.of([0, 1, 2, 0])


@cache
def built(family: str, kind: str) -> tuple[ExplainedModel, AbstractMaskExplainer]:
    """An explained model of its own, in float64, and a random explainer of it that does something."""
    model = fresh(family).double()
    if family in EXPERTS:
        model.model.set_experts_implementation("eager")
    torch.manual_seed(0)
    explainer = explainer_of(model, kind).double().eval()
    model.double()
    with torch.no_grad():
        for name, parameter in explainer.trained(model).items():
            if ".lora_B" in name:
                parameter.normal_(std=0.3)
    return model, explainer


@every_pair
def test_scores_do_not_depend_on_padding_side_or_company(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    with torch.no_grad():
        alone = [explainer(model, batch_of(model, [text]), TARGET[i : i + 1])[0] for i, text in enumerate(TEXTS)]
        for side in ("right", "left"):
            batch = batch_of(model, side=side)
            together = batch.split(explainer(model, batch, TARGET))
            assert relative_error(torch.cat(together), torch.cat(alone)) < 1e-5


@every_pair
def test_scores_are_float32_and_exactly_0_at_specials_and_padding(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    batch = batch_of(model, side="left")
    scores = explainer(model, batch, TARGET)
    assert scores.dtype == torch.float32
    assert scores.requires_grad
    assert (scores[~batch.scorable] == 0).all()
    assert (scores[batch.scorable] != 0).all()


@every_pair
def test_the_explained_model_is_bit_equal_after_use_and_after_an_exception(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    with bit_equal_logits(model):
        explainer(model, batch_of(model), TARGET)

    def broken(*_: object) -> None:
        raise RuntimeError("inside the explainer")

    with bit_equal_logits(model):
        broken_part = explainer.head if kind == "side" else explainer.backbone(model).get_input_embeddings()
        handle = broken_part.register_forward_hook(broken)
        with pytest.raises(RuntimeError, match="inside the explainer"):
            explainer(model, batch_of(model), TARGET)
        handle.remove()


@every_pair
def test_another_class_has_other_scores(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    if FAMILIES[family][0] == "decoder":
        assert model.is_causal  # it attends in both directions here, or the class embedding would not be seen
    batch = batch_of(model)
    with torch.no_grad():
        first, second = (explainer(model, batch, Target.of([c] * 4)) for c in (0, 1))
    assert all((one - two).abs().max() > 1e-6 for one, two in zip(batch.split(first), batch.split(second), strict=True))


@every_pair
def test_a_text_of_the_maximum_length_works_in_a_batch_with_a_short_one(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    n = 40 - model.tokenizer.num_special_tokens_to_add()
    long = batch_of(model, [" ".join(["fun"] * n), "bad film"])
    assert long.input_ids.shape[1] == 40
    with torch.no_grad():
        scores = explainer(model, long, Target.of([0, 1]))
        assert scores.shape == (2, 40)
        assert scores.isfinite().all()
        assert (scores[long.scorable] != 0).all()
        other = explainer(model, long, Target.of([1, 1]))
    assert not torch.allclose(scores[0], other[0])  # the class is still seen
    alone = explainer(model, batch_of(model, ["bad film"]), Target.of([1]))[0]
    assert relative_error(long.split(scores)[1], alone) < 1e-5


@every_kind
def test_gradients_reach_everything_that_is_trained_and_nothing_else(kind: str) -> None:
    for family in (family for family, own in PAIRS if own == kind):
        model, explainer = built(family, kind)
        explainer(model, batch_of(model), TARGET).pow(2).sum().backward()
        trained = explainer.trained(model)
        without = [name for name, parameter in trained.items() if parameter.grad is None]
        # Some gradients are 0 (a key's bias does not change a softmax), but no parameter is out of the graph.
        assert without == []
        ids = {id(parameter) for parameter in trained.values()}
        assert all(p.grad is None for p in model.parameters() if id(p) not in ids)
        for parameter in trained.values():
            parameter.grad = None


@every_kind
def test_trained_weights_go_round_by_load_trained(kind: str) -> None:
    model, explainer = built("bert", kind)
    other_model = fresh("bert").double()
    torch.manual_seed(5)
    other = explainer_of(other_model, kind).double().eval()
    other_model.double()
    batch = batch_of(model)
    expected = explainer(model, batch, TARGET)
    assert not torch.allclose(other(other_model, batch, TARGET), expected)
    other.load_trained(other_model, {name: p.detach() for name, p in explainer.trained(model).items()})
    assert torch.equal(other(other_model, batch, TARGET), expected)


@every_kind
def test_load_trained_refuses_missing_and_unknown_names(kind: str) -> None:
    model, explainer = built("bert", kind)
    weights = {name: parameter.detach() for name, parameter in explainer.trained(model).items()}
    missing = dict(weights)
    missing.pop("head.1.bias" if kind == "side" else "head.0.bias")
    with pytest.raises(ValueError, match=r"differ in 1 names, such as 'head\.[01]\.bias'"):
        explainer.load_trained(model, missing)
    with pytest.raises(ValueError, match="differ in 1 names, such as 'stray'"):
        explainer.load_trained(model, weights | {"stray": torch.zeros(1)})


@every_kind
def test_load_trained_refuses_another_shape(kind: str) -> None:
    model, explainer = built("bert", kind)
    weights = {name: parameter.detach().clone() for name, parameter in explainer.trained(model).items()}
    width = weights["label.classes"].shape[1]
    weights["label.classes"] = torch.zeros(5, width)
    with pytest.raises(ValueError, match=rf"'label\.classes' has shape \(5, {width}\) in the file, \(3, {width}\)"):
        explainer.load_trained(model, weights)


def test_kinds_are_the_table_s_keys() -> None:
    assert set(EXPLAINERS) == {"attention", "encoder", "lora", "response", "separate", "side"}
    assert all(explainer.kind == kind for kind, explainer in EXPLAINERS.items())


@every_pair
def test_predicting_gives_the_model_s_own_logits_and_the_scores_of_every_class(family: str, kind: str) -> None:
    model, explainer = built(family, kind)
    batch = batch_of(model, side="left")
    with torch.no_grad():
        readout, score = explainer.predict_and_attribute(model, batch)
        assert isinstance(readout, Readout)
        assert torch.equal(readout.logits, model(batch).logits)
        for c in range(3):
            assert torch.equal(score(Target.of([c] * 4)), explainer(model, batch, Target.of([c] * 4)))


@every_kind
def test_scores_of_an_empty_text_are_0(kind: str) -> None:
    model, explainer = built("bert", kind)
    batch: TokenBatch = batch_of(model, [""])
    assert (explainer(model, batch, Target.of([0])) == 0).all()


@every_kind
@pytest.mark.parametrize("task", TASKS)
def test_every_task_of_single_labels_has_an_explainer(task: str, kind: str) -> None:
    model = copy.deepcopy(explained("bert", **TASKS[task]))
    explainer, batch = explainer_of(model, kind).eval(), batch_of(model)
    readout, score = explainer.predict_and_attribute(model, batch)
    assert readout.link == model.task.link
    for c in range(len(model.labels)):
        scores = score(Target.of([c] * 4))
        assert (scores[batch.scorable] != 0).all()
        assert torch.equal(scores, explainer(model, batch, Target.of([c] * 4)))


@every_kind
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target.of([0], foil=[1]), "a contrast with a foil"),
        (Target.of([0], score="log_prob"), "`score` 'log_prob'"),
        (Target(torch.tensor([[0, 1]])), "2 questions at once"),
    ],
)
def test_a_target_that_is_not_one_class_s_logit_is_refused(target: Target, reason: str, kind: str) -> None:
    model, explainer = built("bert", kind)
    with pytest.raises(ValueError, match=f"the target asks for {reason}: leave `foil` and `score` out"):
        explainer(model, batch_of(model, ["bad"]), target)


@every_kind
def test_a_task_without_a_closed_list_of_labels_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fresh("bert")
    monkeypatch.setattr(type(model), "labels", [])
    with pytest.raises(ValueError, match="`explained` has no closed list of labels"):
        explainer_of(model, kind)
