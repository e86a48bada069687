"""What tagging words and answering questions share: spans as callers give them, and marks that perturbations keep."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering, BertConfig, BertForSequenceClassification

from explainer.attributor import Attributor
from explainer.explained import EncodedText, ExplainedModel, QuestionAnswering, Target, TokenClassification
from explainer.explained.tasks.anchored import spans_of
from explainer.faithfulness.measures import METRICS, faithfulness
from explainer.faithfulness.perturbation import Operator, perturb
from explainer.methods import GreedyKeeping, LeaveOneOut, SubsetRegression
from tests.explainer.tools import encoded, relative_error
from tests.families import ANCHORED_TASKS, TEXTS, explained, tokenizer

every_task = pytest.mark.parametrize("task", ANCHORED_TASKS)
CASES = [(task, family) for task in ANCHORED_TASKS for family in ("bert", "llama")]


def model_of(task: str, family: str = "bert") -> ExplainedModel:
    return explained(family, **ANCHORED_TASKS[task])


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("predicted", ["predicted"] * 2),
        ((1, 4), [(1, 4)] * 2),
        ([1, 4], [[1, 4]] * 2),  # two numbers are one span
        ([[1, 4], "film"], [[1, 4], "film"]),
        (np.array([1, 4]), [np.array([1, 4])] * 2),
        (3, [3, 3]),
    ],
)
def test_a_target_is_one_for_all_texts_or_one_per_text(wanted: Any, expected: list[Any]) -> None:
    assert str(spans_of(wanted, 2)) == str(expected)


def test_as_many_targets_as_texts() -> None:
    with pytest.raises(ValueError, match=r"`target` must be one target, or one per text \(3\), got 2"):
        spans_of(["a", "b"], 3)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ((0, 99), r"`target` \[0, 99\] must be \[start, end\] characters of the {part}, which has \d+"),
        ((4, 4), r"must be \[start, end\] characters"),
        ((3, 4), r"`target` \[3, 4\] covers no token of the {part}: ' '"),
        ("dog", r"`target` 'dog' occurs 0 times in the {part}, and must occur once"),
        ("the", r"`target` 'the' occurs 2 times in the {part}"),
        ("", r"occurs 0 times"),
        (0, r"`target` 0 is no token of the {part}"),
        (2.5, r"`target` must be 'predicted', \[start, end\] or a part of the {part}, got 2.5"),
    ],
)
@every_task
def test_a_span_that_is_none_is_refused(task: str, wanted: Any, message: str) -> None:
    model = model_of(task)
    text = "the film was the plot"
    texts = model.encode(["was it"], [text]) if task == "question-answering" else model.encode([text])
    with pytest.raises(ValueError, match=message.replace("{part}", model.task.part) + r".*\(of text 0: "):
        model.asked(texts, [wanted])


@every_task
def test_what_the_model_does_not_read_is_refused(task: str) -> None:
    model = model_of(task)
    text = " ".join(["film"] * 50)
    with pytest.warns(UserWarning, match="tokens of the text are not read"):
        texts = model.encode(["was it"], [text]) if task == "question-answering" else model.encode([text])
    with pytest.raises(ValueError, match=r"stands behind the part of the \w+ that the model reads, which ends at"):
        model.asked(texts, (len(text) - 4, len(text)))
    last = max(end for _, end in texts[0].offsets)
    with pytest.raises(ValueError, match=rf"is cut: the model reads the \w+ to character {last} only"):
        model.asked(texts, (0, len(text)))


@every_task
def test_texts_without_marks_are_refused_by_methods_and_metrics(task: str) -> None:
    model = model_of(task)
    plain = model.encode(TEXTS[:1], TEXTS[:1] if task == "question-answering" else None)
    target = model.asked(plain)[1]
    for ask in (
        lambda: model.objective(model.collate(plain), target),
        lambda: model.evaluate([plain[0].tokens], target),
    ):
        with pytest.raises(ValueError, match=r"is not marked in them: mark it by `ExplainedModel\.asked`"):
            ask()
    with pytest.raises(ValueError, match=r"mark it there by `ExplainedModel\.asked`"):
        model.task.target("predicted", 1)


@every_task
def test_a_model_of_another_head_is_refused(task: str) -> None:
    words = tokenizer("encoder")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(words), pad_token_id=words.pad_token_id, **sizes))
    asked = QuestionAnswering() if task == "question-answering" else TokenClassification()
    with pytest.raises(ValueError, match=rf"`model` is a BertForSequenceClassification, and the task '{task}' reads"):
        ExplainedModel(model, words, task=asked)


def marks(text: EncodedText) -> list[int]:
    assert text.tokens.anchors is not None
    return text.tokens.anchors.tolist()


@pytest.mark.parametrize(("task", "family"), CASES)
@pytest.mark.parametrize("operator", ["delete", "replace", "blank", "hide"])
def test_marked_tokens_survive_every_perturbation(task: str, family: str, operator: Operator) -> None:
    """Whatever is taken out, the marks are all there, and the answer is read where the whole text's is."""
    model = model_of(task, family)
    (text,) = encoded(model, [TEXTS[1]])
    everything = torch.ones(len(text), dtype=torch.bool)
    tokens = perturb(text, everything, operator, model.baseline_token_id)
    assert tokens.anchors is not None
    read = tokens.anchors > 0
    assert tokens.anchors[read].tolist() == [mark for mark in marks(text) if mark]
    n_kept = int((~text.scorable | torch.tensor(marks(text)).bool()).sum())
    assert len(tokens) == (n_kept if operator == "delete" else len(text))
    if operator != "blank":
        assert (tokens.input_ids[read] == model.baseline_token_id).all()
    values = model.evaluate([tokens], model.predicted([text]))
    assert values.log_probability is not None
    assert values.log_probability.isfinite().all()


@pytest.mark.parametrize(("task", "family"), CASES)
def test_methods_that_delete_keep_the_marked_tokens(task: str, family: str) -> None:
    """Leave-one-out by hand: the bare model on the ids without one token, or with the baseline token at a mark."""
    model = model_of(task, family)
    (text,) = encoded(model, [TEXTS[1]])
    target = model.predicted([text])
    scores = LeaveOneOut().attribute(model, [text], target).scores[0]
    whole = value_by_hand(model, text, torch.ones(len(text), dtype=torch.bool))
    for place in text.scorable.nonzero()[:, 0].tolist():
        kept = torch.arange(len(text)) != place
        assert float(scores[place]) == pytest.approx(whole - value_by_hand(model, text, kept), abs=1e-4)
    for method in (SubsetRegression(n_subsets=4), GreedyKeeping()):
        assert method.attribute(model, [text], target).scores[0].isfinite().all()


@torch.no_grad()
def value_by_hand(model: ExplainedModel, text: EncodedText, kept: torch.Tensor) -> float:
    """The sum of the target's logits by the bare model, its positions counted anew."""
    anchors = torch.tensor(marks(text))
    choices = model.predicted([text]).choices[0].tolist()
    stays = kept | (anchors > 0)
    ids = torch.where(kept, text.tokens.input_ids, model.baseline_token_id)[stays]
    types = text.tokens.token_type_ids
    more = {} if types is None or model.is_causal else {"token_type_ids": types[stays][None]}
    output = model.model(input_ids=ids[None], **more)
    now = {int(place): i for i, place in enumerate(stays.nonzero()[:, 0])}
    if isinstance(model.task, QuestionAnswering):
        first, last = choices
        return float(output.start_logits[0, now[first]] + output.end_logits[0, now[last]])
    places = [int((anchors == q).nonzero()[0]) for q in range(1, len(choices) + 1)]
    return float(sum(output.logits[0, now[place], tag] for place, tag in zip(places, choices, strict=True)))


@pytest.mark.parametrize(("task", "family"), CASES)
def test_metrics_are_those_of_the_bare_model(task: str, family: str) -> None:
    """Comprehensiveness, sufficiency and log-odds at a fifth, from probabilities by hand."""
    model = model_of(task, family)
    texts = encoded(model, TEXTS[1:3])
    target = model.predicted(texts)
    attributions = LeaveOneOut().attribute(model, texts, target)
    found = faithfulness(model, attributions, METRICS[:3])
    for i, (text, scores) in enumerate(zip(texts, attributions.scores, strict=True)):
        order = sorted(text.scorable.nonzero()[:, 0].tolist(), key=lambda j: (-float(scores[j]), j))
        k = int(0.2 * len(order) + 1e-9)
        whole = probability_by_hand(model, text, set(), "delete")
        deleted, replaced = (probability_by_hand(model, text, set(order[:k]), how) for how in ("delete", "replace"))
        alone = probability_by_hand(model, text, set(order[k:]) if k else set(), "delete")
        expected = [whole - deleted, whole - alone, float(np.log(replaced) - np.log(whole))]
        assert [float(found[name][i]) for name in METRICS[:3]] == pytest.approx(expected, abs=2e-5)


@torch.no_grad()
def probability_by_hand(model: ExplainedModel, text: EncodedText, taken: set[int], how: str) -> float:
    anchors = torch.tensor(marks(text))
    choices = model.predicted([text]).choices[0].tolist()
    gone = torch.tensor([i in taken for i in range(len(text))])
    stays = torch.ones_like(gone) if how == "replace" else ~gone | (anchors > 0)
    ids = torch.where(gone, model.baseline_token_id, text.tokens.input_ids)[stays]
    types = text.tokens.token_type_ids
    more = {} if types is None or model.is_causal else {"token_type_ids": types[stays][None]}
    output = model.model(input_ids=ids[None], **more)
    now = {int(place): i for i, place in enumerate(stays.nonzero()[:, 0])}
    if isinstance(model.task, QuestionAnswering):
        ends = (output.start_logits[0], output.end_logits[0])
        return float(np.prod([logits.softmax(0)[now[c]] for logits, c in zip(ends, choices, strict=True)]))
    places = [int((anchors == q).nonzero()[0]) for q in range(1, len(choices) + 1)]
    return float(np.prod([output.logits[0, now[p]].softmax(0)[tag] for p, tag in zip(places, choices, strict=True)]))


@every_task
def test_a_batch_of_texts_is_asked_as_each_alone(task: str) -> None:
    model = model_of(task, "llama")
    together = encoded(model, TEXTS)
    target = model.predicted(together)
    for i, text in enumerate(TEXTS):
        (alone,) = encoded(model, [text])
        assert marks(alone) == marks(together[i])
        own = [choice for choice in target.choices[i].tolist() if choice >= 0]
        assert model.predicted([alone]).choices[0].tolist() == own


@every_task
def test_trust_fallback_and_units_work(task: str) -> None:
    model = model_of(task)
    contexts = TEXTS[:2] if task == "question-answering" else None
    explanations = Attributor.of(model, "attn_lrp")(
        TEXTS[1:3], contexts, units="word", fallback="leave_one_out", min_faithfulness=2.0
    )
    for one in explanations:
        assert one.trust is not None
        assert "fallback" in one.method
        assert sum(unit.score for unit in one.units()) == pytest.approx(sum(one.scores), abs=1e-5)


def test_a_head_of_spans_of_its_own_is_refused() -> None:
    class Odd:
        start_logits = None

    own = model_of("question-answering")
    with pytest.raises(ValueError, match=r"gives no `start_logits` and `end_logits`"):
        own.task.read(Odd(), own.collate(encoded(own)))


def test_scores_of_the_context_alone_or_of_the_question_alone() -> None:
    model = explained("bert", head=AutoModelForQuestionAnswering)
    for part, segments in (("context", {1}), ("question", {0}), ("both", {0, 1})):
        task = QuestionAnswering(part)  # type: ignore[arg-type]
        (text,) = task.encode(model.text, ["was it good"], ["it was a film"])
        scored = {segment for segment, own in zip(text.segments, text.scorable.tolist(), strict=True) if own}
        assert scored == segments
    with pytest.raises(ValueError, match="`longest_answer` must be a positive number of tokens, got 0"):
        QuestionAnswering(longest_answer=0)


def test_targets_of_several_lengths_are_one_target() -> None:
    model = model_of("token-classification")
    texts, target = model.asked(model.encode(TEXTS[:2]), [(0, 8), (0, 4)])
    assert target.choices.shape == (2, 2)
    assert (
        relative_error(
            LeaveOneOut().attribute(model, texts, target).scores[1],
            LeaveOneOut().attribute(model, texts[1:], Target(target.choices[1:, :1])).scores[0],
        )
        < 1e-5
    )
