"""Answers to questions: choices that keep their positions, the best span, captions, foils, and Mask-LRP by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, BertConfig, BertForQuestionAnswering

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, QuestionAnswering, Readout, Target
from explainer.faithfulness.measures import ANSWER_METRICS, faithfulness, metrics_of
from explainer.methods import MaskLRP
from explainer.methods.attention.weights import weights_and_gradients
from explainer.methods.contrast import Contrast
from explainer.methods.lrp.mask_lrp import chefer
from tests.explainer.methods.lrp.test_mask_lrp import Bert, linear
from tests.explainer.tools import encoded, relative_error
from tests.families import TEXTS, explained, tokenizer

QUESTION, CONTEXT = "was the film good", "the plot was great fun and the film was dull"


def model(family: str = "bert") -> ExplainedModel:
    return explained(family, head=AutoModelForQuestionAnswering)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_deleted_positions_have_no_logit_and_the_others_keep_theirs(family: str) -> None:
    own = model(family)
    (text,) = own.encode([QUESTION], [CONTEXT])
    kept = torch.arange(len(text)) != 4
    tokens = text.tokens.select(kept)
    found = own.predict([text.tokens, tokens]).logits
    assert found[0].isfinite().all()
    assert (found[1, :, 4] == -torch.inf).all()
    types = {} if own.is_causal else {"token_type_ids": tokens.token_type_ids[None]}  # type: ignore[index]
    with torch.no_grad():
        output = own.model(input_ids=tokens.input_ids[None], **types)
    expected = torch.cat([output.start_logits, output.end_logits])
    torch.testing.assert_close(found[1][:, kept], expected, atol=1e-5, rtol=1e-4)


def test_the_best_span_is_that_of_a_search_over_all_spans() -> None:
    own = model()
    (text,) = own.encode([QUESTION], [CONTEXT])
    context = [i for i, part in enumerate(text.segments) if part == 1 and text.scorable[i]]
    generator = torch.Generator().manual_seed(0)
    for longest in (1, 3, 15):
        task = QuestionAnswering(longest_answer=longest)
        for _ in range(5):
            logits = torch.randn(1, 2, len(text), generator=generator) * 3
            spans = [(i, j) for i in context for j in context if i <= j < i + longest]
            start, end = logits[0].tolist()
            best = max(spans, key=lambda span: start[span[0]] + end[span[1]])
            assert tuple(task.best_span(text, Readout(logits))) == best
            beside = [span for span in spans if span[1] < best[0] or span[0] > best[1]]
            other = max(beside, key=lambda span: start[span[0]] + end[span[1]])
            assert tuple(task.best_span(text, Readout(logits), best)) == other


def test_an_answer_is_predicted_or_given_and_named_by_its_words() -> None:
    own = model()
    attributor = Attributor.of(own, "attn_lrp")
    predicted = attributor(QUESTION, CONTEXT)
    assert isinstance(predicted.target, list)
    assert predicted.target_label == predicted.predicted_label == f"answer {CONTEXT[slice(*predicted.target)]!r}"
    assert predicted.probabilities is None
    for wanted in ("great fun", (13, 22), [15, 20]):
        given = attributor({"question": QUESTION, "context": CONTEXT}, target=wanted)
        assert given.target == [13, 22]
        assert given.target_label == "answer 'great fun'"
        assert given.predicted_label == predicted.predicted_label
    with torch.no_grad():
        output = own.model(**own.tokenizer(QUESTION, CONTEXT, return_tensors="pt"))
    first = 5 + 4  # after the question's tokens and two special ones, the fourth word
    p = output.start_logits.softmax(-1)[0, first] * output.end_logits.softmax(-1)[0, first + 1]
    assert given.probability == pytest.approx(float(p), rel=1e-4)


def test_a_foil_is_marked_too_and_subtracted() -> None:
    own = model()
    texts, target = own.asked(own.encode([QUESTION], [CONTEXT]), "great fun", "dull")
    assert target.foil is not None
    first, last = target.choices[0].tolist()
    anchors = texts[0].tokens.anchors
    assert anchors is not None
    assert anchors[[first, last, int(target.foil[0, 0])]].tolist() == [1, 2, 3]
    share = own.task.read_share(own.collate(texts))
    assert share[0, [first, last]].tolist() == [0.5, 0.5]
    runner_up = own.asked(own.encode([QUESTION], [CONTEXT]), "great fun", "runner_up")[1].foil
    assert runner_up is not None
    assert runner_up[0].tolist() == own.task.best_span(texts[0], own.predict([texts[0].tokens]), (first, last))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="`foil` is the target itself"):
        own.asked(texts, "dull", "dull")
    with pytest.raises(ValueError, match=r"`foil` \[90, 95\] must be \[start, end\] characters of the context"):
        own.asked(texts, "dull", (90, 95))
    with pytest.raises(ValueError, match="give `foil` to the call"):
        Contrast(MaskLRP(), foil="runner_up").attribute(own, texts, target)


def test_what_is_no_question_with_its_context_is_refused() -> None:
    own = model()
    with pytest.raises(ValueError, match=r"`text_pairs\[0\]` is missing: a question is the text, its context"):
        own.encode([QUESTION])
    with pytest.raises(ValueError, match="the context has no token that could be the answer"):
        own.asked(own.encode([QUESTION], [""]))
    with pytest.raises(ValueError, match="a question has one answer"):
        Attributor.of(own, "random")(QUESTION, CONTEXT, targets="all")
    refused = pytest.raises(ValueError, match=r"`texts\[0\]` has as many tokens as the model takes, 40, and leaves no")
    with pytest.warns(UserWarning, match="are not read"), refused:
        own.encode(["film " * 40], [CONTEXT])


def test_the_question_is_never_cut() -> None:
    own = model()
    with pytest.warns(UserWarning, match="are not read"):
        (text,) = own.encode(["film " * 30], ["the plot " * 10])
    assert text.segments.count(1) + 33 >= 40
    assert text.text[slice(*text.offsets[30])] == "film"


# Mask-LRP's protocol


def test_precision_at_20_and_the_paper_s_areas_are_measured_of_answers() -> None:
    own = model()
    texts, target = own.asked(own.encode([QUESTION], [CONTEXT]), "great fun")
    assert metrics_of(own.task)[-3:] == ANSWER_METRICS
    attributions = MaskLRP().attribute(own, texts, target)
    found = faithfulness(own, attributions, ANSWER_METRICS)
    assert float(found["answer_precision"]) == 1.0  # the text has fewer than 20 scorable tokens
    places = [i for i in range(len(texts[0])) if texts[0].scorable[i]]
    order = sorted(places, key=lambda j: (-float(attributions.scores[0][j]), j))
    values = []
    for step in range(10):
        gone = torch.zeros(len(texts[0]), dtype=torch.bool)
        gone[order[: len(order) * step // 9]] = True
        ids = torch.where(gone, own.baseline_token_id, texts[0].tokens.input_ids)
        with torch.no_grad():
            output = own.model(input_ids=ids[None], token_type_ids=texts[0].tokens.token_type_ids[None])  # type: ignore[index]
        first, last = target.choices[0].tolist()
        values.append(output.start_logits.softmax(-1)[0, first] * output.end_logits.softmax(-1)[0, last])
    p = torch.stack(values).double()
    assert float(found["mask_lrp_aopc"]) == pytest.approx(float((p[0] - p[1:]).mean()), abs=1e-5)
    assert float(found["mask_lrp_log_odds"]) == pytest.approx(float((p[1:].log() - p[0].log()).mean()), abs=1e-4)
    classifier = explained("bert")
    with pytest.raises(ValueError, match="`metrics` answer_precision are of answers, and the task is 'text-class"):
        faithfulness(
            classifier,
            MaskLRP().attribute(classifier, encoded(classifier), Target.of([0] * len(TEXTS))),
            ["answer_precision"],
        )


class AnsweringBert(Bert):
    """The relevance of the two logits of an answer, propagated by hand from the head down."""

    def __init__(self, model: Any, ids: Tensor, types: Tensor, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        embeddings = model.bert.embeddings
        others = embeddings.position_embeddings.weight[: len(ids)] + embeddings.token_type_embeddings.weight[types]
        self.embedded = embeddings.LayerNorm(embeddings.word_embeddings.weight[ids] + others)

    def of_answer(self, first: int, last: int) -> list[Tensor]:
        backwards, x = [], self.embedded
        for layer, kept in zip(self.model.bert.encoder.layer, self.mask, strict=True):
            x, backward = self.layer(layer, kept, x)
            backwards.append(backward)
        start = torch.zeros(len(x), 2, dtype=x.dtype)
        start[first, 0] = start[last, 1] = 1.0
        relevance = linear(x, self.model.qa_outputs.weight, start)
        at_attention = []
        for backward in reversed(backwards):
            relevance, at_weights = backward(relevance)
            at_attention.insert(0, at_weights)
        return at_attention


@pytest.mark.parametrize("masked", [False, True])
def test_mask_lrp_of_an_answer_is_the_paper_s_propagated_by_hand(masked: bool) -> None:
    """Relevance by loops in float64, the rollout multiplied out, the rows of the answer's two ends summed."""
    words = tokenizer("encoder")
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 10}
    torch.manual_seed(1)  # by seed 0 a sum is so near to 0 that the stabiliser counts
    bare = BertForQuestionAnswering(BertConfig(vocab_size=len(words), max_position_embeddings=40, **sizes))
    with torch.no_grad():
        for parameter in bare.parameters():
            parameter.normal_(std=0.5)
    own = ExplainedModel(bare, words).double()
    (text,), target = own.asked(own.encode(["was it good"], ["the film was great fun"]), "great fun")
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.5, 1.0, 0.25]] if masked else [[1.0] * 3] * 2, dtype=torch.float64)
    first, last = target.choices[0].tolist()
    assert text.tokens.token_type_ids is not None
    with torch.no_grad():
        by_hand = AnsweringBert(bare, text.tokens.input_ids, text.tokens.token_type_ids, mask).of_answer(first, last)
    batch = own.collate([text])
    _, gradients = weights_and_gradients(own, batch, target)
    rolled = torch.eye(len(text), dtype=torch.float64)
    alone = torch.ones(len(text), dtype=torch.float64)
    for gradient, relevance in zip(gradients, by_hand, strict=True):
        layer = (gradient[0] * relevance).clamp(min=0).mean(dim=0) + torch.eye(len(text), dtype=torch.float64)
        rolled = layer / layer.sum(dim=1, keepdim=True) @ rolled
        alone = alone / layer.sum(dim=1)
    rolled = rolled - torch.diag(alone)  # what went through no attention
    expected = (rolled[first] + rolled[last]) / 2
    scores = chefer(own, batch, target, mask)[0].double()
    expected = torch.where(text.scorable, expected, 0.0)
    assert relative_error(scores, expected) < 1e-5
    assert float(scores.abs().max()) > 0
