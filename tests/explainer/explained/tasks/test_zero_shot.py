"""Zero-shot classification: transformers' own pipeline, one pair per label, bad input, and a trained explainer."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, Target, TextClassification, ZeroShotClassification
from explainer.explained.tasks import task_from
from explainer.explainers import SideExplainer
from explainer.explainers.folder import save_folder
from explainer.export.exportable import ExportableAttributor
from explainer.faithfulness.measures import faithfulness
from explainer.methods import METHODS, AttnLRP, LeaveOneOut
from explainer.methods.loading import load_method
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import batch_of, moved, saved
from tests.families import TEXTS, explained

LABELS = ["good", "not bad", "dull"]
every_link = pytest.mark.parametrize("multi_label", [False, True])


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "t5"])
@every_link
def test_the_probabilities_are_those_of_transformers_pipeline(family: str, multi_label: bool) -> None:
    model = explained(family, zero_shot=multi_label)
    theirs = pipeline("zero-shot-classification", model=model.model, tokenizer=model.tokenizer)
    ours = model.predict([text.tokens for text in model.encode(TEXTS)])
    assert ours.probabilities is not None
    for text, probabilities in zip(TEXTS, ours.probabilities[:, 0], strict=True):
        answer = theirs(text, candidate_labels=LABELS, hypothesis_template="it is {}", multi_label=multi_label)
        expected = [answer["scores"][answer["labels"].index(label)] for label in LABELS]
        assert probabilities.tolist() == pytest.approx(expected, abs=1e-6)
    for side in ("left", "right"):
        torch.testing.assert_close(model(batch_of(model, side=side)).logits, ours.logits)


@every_link
def test_a_label_s_logit_is_read_from_the_pair_of_that_label_alone(multi_label: bool) -> None:
    model, target = explained("bert", zero_shot=multi_label), Target.of([0, 2, 1, 1])
    rows: list[int] = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    batch = batch_of(model)
    torch.testing.assert_close(model.objective(batch, target), model(batch).value(target))
    foil = Target(target.choices, Target.of([1, 0, 0, 2]).choices)
    torch.testing.assert_close(model.objective(batch, foil), model(batch).objective(foil))
    hook.remove()
    assert rows == [4, 12, 8, 12]


def test_the_text_alone_is_scorable_and_its_tokens_are_those_of_the_pair() -> None:
    model = explained("bert", zero_shot=False)
    (text,) = model.encode(["the film is good"])
    whole = model.tokenizer("the film is good", "it is not bad")["input_ids"]
    assert text.tokens.input_ids.tolist() == whole[: len(text)]
    assert [text.text[a:b] for (a, b), own in zip(text.offsets, text.scorable, strict=True) if own] == (
        ["the", "film", "is", "good"]
    )
    task = model.task
    assert isinstance(task, ZeroShotClassification)
    rows = task.rows(model.collate([text]))
    assert rows.input_ids[1].tolist() == whole
    assert rows.token_type_ids is not None
    assert rows.token_type_ids[1].tolist() == model.tokenizer("the film is good", "it is not bad")["token_type_ids"]
    assert int(rows.scorable[1].sum()) == text.n_scorable


def test_a_long_text_is_cut_and_the_hypotheses_never() -> None:
    model = explained("bert", zero_shot=False)
    with pytest.warns(UserWarning, match=r"Text 0 has \d+ tokens"):
        (text,) = model.encode([" ".join(["fun"] * 60)])
    longest = max(len(ids) for ids, _ in model.task.tails)  # type: ignore[attr-defined]
    assert len(text) == 40 - longest
    assert model(model.collate([text])).logits.isfinite().all()


def test_scores_are_those_of_the_pair_by_itself() -> None:
    """The same weights as a classifier of pairs: the scores of the text's tokens for entailment."""
    model = explained("bert", zero_shot=False)
    pairs = ExplainedModel(model.model, model.tokenizer)
    assert isinstance(pairs.task, TextClassification)
    for method in (AttnLRP(), LeaveOneOut(), load_method("gae"), load_method("mean_attention")):
        (mine,) = method.attribute(model, model.encode(TEXTS[:1]), Target.of([1])).scores
        (pair,) = method.attribute(pairs, pairs.encode(TEXTS[:1], ["it is not bad"]), Target.of([2])).scores
        torch.testing.assert_close(mine, pair[: len(mine)], rtol=1e-3, atol=1e-6)


def test_log_probabilities_are_explained_through_every_label_s_pair() -> None:
    """Of a linear method, ln p_l has the scores of e_l less those of all e_k, weighted by p_k."""
    model = copy.deepcopy(explained("bert", zero_shot=False)).double()
    texts = model.encode(TEXTS[:1])
    probabilities = model.predict([texts[0].tokens]).probabilities
    assert probabilities is not None
    for name in ("attn_lrp", "attcat"):
        method = load_method(name)
        each = [method.attribute(model, texts, Target.of([label])).scores[0] for label in range(3)]
        expected = each[0] - sum(p * one for p, one in zip(probabilities[0, 0], each, strict=True))
        (found,) = method.attribute(model, texts, Target.of([0], score="log_prob")).scores
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-3, atol=1e-6)


def test_every_metric_is_measured() -> None:
    model = explained("bert", zero_shot=False)
    texts = model.encode(TEXTS[:2])
    attributions = AttnLRP().attribute(model, texts, model.predicted(texts))
    values = faithfulness(model, attributions, ["comprehensiveness", "aopc_sufficiency", "log_odds", "morf_lerf_area"])
    assert all(bool(value.isfinite().all()) for value in values.values())


def test_an_attributor_names_the_labels() -> None:
    task = ZeroShotClassification.of(LABELS, "it is {}")
    one = explained("bert", zero_shot=False)
    attributor = Attributor(ExplainedModel(one.model, one.tokenizer, task=task), AttnLRP())
    explanation = attributor("the film is good", target="dull", foil="good")
    assert explanation.target_label == "dull"
    assert explanation.probabilities is not None
    assert sum(explanation.probabilities) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"`text_pairs\[0\]` is 'so', .* the second text is the hypothesis"):
        attributor("the film", "so")


@pytest.mark.parametrize("kind", ["separate", "encoder"])
def test_a_trained_explainer_is_exported_with_its_labels(kind: str, tmp_path: Path) -> None:
    model = explained("bert", zero_shot=True)
    named = ExplainedModel(model.model, model.tokenizer, task=model.task, name=saved(model, tmp_path / "model"))
    explainer = moved(named, kind)
    texts = named.encode(TEXTS[:2])
    expected = Amortized(explainer).attribute(named, texts, Target.of([0, 2])).scores
    save_folder(named, explainer, tmp_path / "export")
    loaded = Attributor.from_pretrained(tmp_path / "export")
    assert loaded.explained.task.settings == named.task.settings
    for mine, theirs in zip(loaded(TEXTS[:2], target=["good", "dull"]), expected, strict=True):
        assert mine.scores == pytest.approx(theirs.tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="a program reads it once: serve this model by PyTorch"):
        ExportableAttributor(named, Amortized(explainer))


def test_the_side_explainer_reads_one_pass_and_is_refused() -> None:
    with pytest.raises(ValueError, match="takes one for each label: train the `separate`"):
        SideExplainer(explained("bert", zero_shot=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["good"]}, r"`labels` must be two or more, got \['good'\].*`multi_label`"),
        ({"labels": []}, "`labels` must be two or more"),
        ({"labels": ["good", "bad", "good"]}, "`labels` has 'good' twice"),
        ({"labels": ["good", " "]}, "`labels` must be a list of strings that are not empty"),
        ({"labels": "good,bad"}, "`labels` must be a list of strings"),
        (
            {"labels": ["a", "b"], "hypothesis_template": "it is so"},
            r"`hypothesis_template` must have the label's place",
        ),
        ({"labels": ["a", "b"], "hypothesis_template": "{} is {}"}, r"`hypothesis_template` must be a string with one"),
        ({"labels": ["a", "b"], "hypothesis_template": "{a}"}, r"`hypothesis_template` must be a string with one"),
    ],
)
def test_bad_labels_and_templates_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroShotClassification.of(**arguments)


def test_one_label_is_enough_where_it_is_compared_with_its_contradiction() -> None:
    assert ZeroShotClassification.of(["good"], multi_label=True).link == "sigmoid"


def test_models_without_entailment_or_contradiction_are_refused() -> None:
    classifier = explained("bert")
    with pytest.raises(ValueError, match=r"has no label that begins with 'entail': its labels are \['LABEL_0'"):
        ExplainedModel(classifier.model, classifier.tokenizer, task=ZeroShotClassification.of(LABELS))
    model = copy.deepcopy(explained("bert", zero_shot=False).model)
    model.config.id2label = {0: "other", 1: "neutral", 2: "entailment"}
    with pytest.raises(ValueError, match="`multi_label` compares entailment with contradiction"):
        ExplainedModel(model, classifier.tokenizer, task=ZeroShotClassification.of(LABELS, multi_label=True))


def test_labels_that_the_tokenizer_cannot_tell_apart_are_refused() -> None:
    model = explained("bert", zero_shot=False)
    with pytest.raises(ValueError, match=r"the hypotheses of '是' and '不' are the same tokens"):
        ExplainedModel(model.model, model.tokenizer, task=ZeroShotClassification.of(["是", "不"], "it is {}"))


def test_settings_build_the_task_again() -> None:
    task = ZeroShotClassification.of(LABELS, "it is {}", multi_label=True)
    assert task_from(task.settings) == task
    with pytest.raises(ValueError, match="`link` or `labels` are broken"):
        task_from({**task.settings, "link": "identity"})


def test_every_method_is_asked_for_a_foil() -> None:
    model = explained("bert", zero_shot=True)
    texts = model.encode(TEXTS[:1])
    for name in ("gae", "mask_lrp", "rpi", "attention_rollout"):
        assert name in METHODS
        (scores,) = load_method(name).attribute(model, texts, Target.of([0], torch.tensor([2]))).scores
        assert bool(scores.isfinite().all())
        assert bool((scores != 0).any())
