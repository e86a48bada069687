"""The attributor of responses: what a call gives, for one prompt and many; other spans; trust; what bad input gets."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from explainer.attributor import Attributor, ResponseAttributor
from explainer.attributor.response_trust import DRAWS
from explainer.explained import ExplainedModel, Response, explain_response
from explainer.explainers import ResponseExplainer
from explainer.explanation import ResponseExplanation, ScoredSource
from explainer.faithfulness.responses import log_probabilities
from explainer.methods import Random
from explainer.methods.loading import load_method
from explainer.methods.responses import attribute_responses
from explainer.methods.trained.amortized import Amortized
from tests.explainer.explained.test_responses import FAMILY, MESSAGES, model
from tests.explainer.explainers.test_response import built
from tests.explainer.tools import saved
from tests.families import explained as classifier

RESPONSE = " good fun and so"
every_family = pytest.mark.parametrize("family", FAMILY)


def attributor(family: str = "llama", method: str = "input_x_gradient") -> ResponseAttributor:
    return ResponseAttributor.of(model(family), method)


def close(one: ResponseExplanation, other: ResponseExplanation, atol: float = 1e-4) -> bool:
    """Whether two explanations say the same, to rounding."""
    words, numbers = [], []
    for each in (one, other):
        record = each.record()
        trust = record.pop("trust", {})
        scores = [source.pop("score") for source in record["sources"]]
        measured = [trust[name] for name in ("drop", "random", "everything") if trust]
        numbers.append(torch.tensor([record.pop("log_probability"), *measured, *scores]))
        words.append(record)
    return words[0] == words[1] and torch.allclose(*numbers, atol=atol, rtol=1e-3)


def same(ones: Any, others: Any) -> bool:
    ones, others = list(ones), list(others)
    return len(ones) == len(others) and all(map(close, ones, others))


def lies_in(inner: ScoredSource, outer: ScoredSource) -> bool:
    """Whether the visible characters of a source lie in another one."""
    start = inner.start + len(inner.text) - len(inner.text.lstrip())
    return inner.message == outer.message and outer.start <= start < outer.end


# One prompt


@every_family
def test_a_call_gives_the_scores_of_the_method_and_the_log_probability_of_the_target(family: str) -> None:
    asked = explain_response(model(family), MESSAGES, RESPONSE, span="fun and", sources="word")
    one = attributor(family)(MESSAGES, response=RESPONSE, span="fun and", sources="word")
    (scores,) = attribute_responses(load_method("input_x_gradient"), model(family), [asked])
    assert list(one.scores) == pytest.approx(scores, abs=1e-5)
    values = model(family).evaluate([asked.text.tokens], asked.target).log_probability
    assert values is not None
    assert one.log_probability == pytest.approx(float(values[0]), abs=1e-4)
    assert [source.text for source in one.sources()] == [source.text for source in asked.sources]
    assert one.response[slice(*one.record()["span"])] == "fun and"
    assert one.record()["target_tokens"] == one.target_tokens


def test_without_a_response_the_model_generates_one() -> None:
    one = attributor()(MESSAGES, generate={"max_new_tokens": 4})
    asked = explain_response(model("llama"), MESSAGES, generate={"max_new_tokens": 4})
    assert one.response_ids == asked.response_ids
    again = attributor()(MESSAGES, response=one.response_ids)
    assert close(one, again)
    assert attributor()("the film was", token="next").asked.span == (0, 1)


@every_family
def test_another_span_is_explained_without_generating_again(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute = attributor(family)
    one = attribute(MESSAGES, response=RESPONSE, sources="word", trust=True)
    monkeypatch.setattr(type(model(family).model), "generate", None)
    part = one.span("fun and")
    assert part.trust is not None
    assert close(part, attribute(MESSAGES, response=RESPONSE, span="fun and", sources="word", trust=True))
    assert close(one.span((1, 5)), attribute(MESSAGES, response=RESPONSE, span=(1, 5), sources="word", trust=True))
    assert close(part.token(0), attribute(MESSAGES, response=RESPONSE, token=0, sources="word", trust=True))
    with pytest.raises(ValueError, match="`span` 'dull' occurs 0 times"):
        one.span("dull")


@every_family
def test_the_rows_of_the_matrix_sum_to_the_scores_of_any_span(family: str) -> None:
    one = attributor(family)(MESSAGES, response=RESPONSE, sources="word", token=0)
    matrix = one.matrix()
    n = len(one.response_ids)
    assert matrix.scores.shape == (n, len(one.sources()))
    for first in range(n):
        span = one.token((first, n))
        assert matrix.scores[first:].sum(dim=0).tolist() == pytest.approx(list(span.scores), abs=1e-3)
        assert float(matrix.log_probabilities[first:].sum()) == pytest.approx(span.log_probability, abs=1e-3)
    groups = [[0, 1], list(range(2, len(one.sources())))]
    assert torch.allclose(matrix.grouped(groups).sum(dim=1), matrix.scores.sum(dim=1))


@every_family
@pytest.mark.parametrize("fine", ["token", "word", "sentence"])
def test_a_coarser_level_has_the_sums(family: str, fine: Any) -> None:
    one = attributor(family)(MESSAGES, response=RESPONSE, sources=fine)
    assert one.sources(fine) == one.sources()
    for level in ("sentence", "paragraph", "message"):
        coarse = one.sources(level)
        asked = explain_response(model(family), MESSAGES, RESPONSE, sources=level)
        assert [source[:4] for source in coarse] == [(s.text, s.message, s.start, s.end) for s in asked.sources]
        (scores,) = attribute_responses(load_method("input_x_gradient"), model(family), [asked])
        if fine != "token":  # white space at a word's edge may lie in another sentence
            inside = [[s.score for s in one.sources() if lies_in(s, outer)] for outer in coarse]
            assert sum(map(len, inside)) == len(one.scores)
            scores = [sum(part) for part in inside]
        assert [source.score for source in coarse] == pytest.approx(scores, abs=1e-4)
    top = one.sources("sentence").top(2)
    assert [source.score for source in top] == sorted((s.score for s in one.sources("sentence")), reverse=True)[:2]


def test_given_ranges_are_sources_and_lie_in_their_message() -> None:
    ranges = [(1, 2, 6), (0, 1, 3)]
    one = attributor()(MESSAGES, response=RESPONSE, sources=ranges)
    assert [source.text for source in one.sources()] == ["film", "be"]
    assert [source.score for source in one.sources("message")] == [one.scores[1], one.scores[0]]
    assert one.contract["sources"] == "given"


def test_a_pickled_explanation_is_data_alone() -> None:
    one = attributor()(MESSAGES, response=RESPONSE)
    data = pickle.dumps(one)
    assert len(data) < 20_000
    again = pickle.loads(data)
    assert again.record() == one.record()
    with pytest.raises(ValueError, match="`span` asks the attributor again, and a pickled explanation has none"):
        again.span("fun")


# Many prompts


@every_family
def test_the_others_of_a_batch_change_nothing(family: str) -> None:
    prompts = [MESSAGES, "the film was", "so it is"]
    responses = [RESPONSE, None, " very good"]
    settings: dict[str, Any] = {"sources": "word", "trust": True, "generate": {"max_new_tokens": 3}}
    together = attributor(family, "leave_one_out")(
        prompts, response=responses, foil=[None, None, " bad"], span=["fun", None, None], **settings
    )
    alone = [
        attributor(family, "leave_one_out")(prompts[0], response=RESPONSE, span="fun", **settings),
        attributor(family, "leave_one_out")(prompts[1], **settings),
        attributor(family, "leave_one_out")(prompts[2], response=" very good", foil=" bad", **settings),
    ]
    for one, other in zip(together, alone, strict=True):
        assert one.trust is not None
        assert close(one, other, atol=1e-3)


def test_a_list_a_stream_and_the_rows_of_a_data_set_give_the_same() -> None:
    rows = [
        {"messages": MESSAGES, "response": RESPONSE, "span": "fun"},
        {"prompt": "the film was", "response": " bad", "span": None},
        {"prompt": "so it is", "response": " good fun", "span": "fun"},
    ]
    attribute = attributor(method="random")
    expected = attribute(rows)
    prompts = [row.get("messages", row.get("prompt")) for row in rows]
    asked = {name: [row[name] for row in rows] for name in ("response", "span")}
    assert same(attribute(prompts, **asked), expected)
    assert same(attribute(tuple(prompts), **asked), expected)
    assert same([attribute(row) for row in rows], expected)
    read: list[int] = []
    stream = attribute.stream((read.append(i) or row for i, row in enumerate(rows)), chunk_size=2)  # type: ignore[func-returns-value]
    assert isinstance(stream, Iterator)
    first = next(stream)
    assert read == [0, 1]
    assert same([first, *stream], expected)
    data = datasets.Dataset.from_list([{"prompt": row.get("prompt") or "a", "response": " b"} for row in rows])
    assert same(attribute(data), attribute(list(data)))
    assert attribute([]) == []


def test_a_value_that_is_no_list_is_for_all_prompts() -> None:
    one, other = attributor(method="random")(["the film", "a movie"], response=" good fun", span="fun")
    assert one.target_tokens == other.target_tokens == ["▁fun"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a(["a", "b"], response=[" c"]), r"`response` must have one entry per prompt \(2\), got 1"),
        (lambda a: a(["a", "b"], response=[" c", ""]), r"`prompts\[1\]`: `response` is empty"),
        (
            lambda a: a(iter(["a"]), response=[" c"]),
            "`response` as a list has one entry per prompt of a list; in",
        ),
        (lambda a: a(["a"], response=" c", sources=[(0, 0, 1)]), "`sources` as ranges are those of one prompt"),
        (lambda a: a.stream(["a"], sources=[(0, 0, 1)]), "`sources` as ranges are those of one prompt"),
        (lambda a: list(a.stream(["a"] * 3 + [{}], chunk_size=2, response=" c")), r"`prompts\[3\]`: a line needs a"),
        (
            lambda a: list(a.stream([{"prompt": "a", "response": r} for r in (" b", " c", "")], chunk_size=2)),
            r"`prompts\[2\]`: `response` is empty",
        ),
        (lambda a: a({"text": "a"}), "a line needs a `prompt` or `messages`, one of the two"),
        (lambda a: a([{"role": "user"}]), "Each of `messages` must have `role` and `content`"),
        (lambda a: a("a", response=3), "`response` must be a string or a list of token ids, got 3"),
        (lambda a: a("a", response=" b", span=[1]), r"`span` must be \[start, end\] or a substring"),
        (lambda a: a("a", response=" b", token="last"), r"`token` must be a number, \(first, last \+ 1\), or 'next'"),
        (
            lambda a: a("a film", response=" b", sources="sentence").sources("word"),
            r"`level` 'word' is finer than what was scored \(sentence\), such as 'a film': call .* `sources='word'`",
        ),
        (lambda a: a("a", response=" b", foil=" c").matrix(), "`matrix` has a row per token .* a `foil` belongs to no"),
        (
            lambda a: a("a", response=" good fun").matrix(max_passes=3),
            r"`matrix` of 2 tokens takes about 8 passes of the model by 'input_x_gradient', more than `max_passes=3`",
        ),
    ],
)
def test_bad_input_is_named_with_the_way_out(call: Callable[[ResponseAttributor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(attributor())


def test_what_is_no_prompt_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`prompts` must be a string, messages, a list of these .* got int"):
        attributor()(3)  # type: ignore[call-overload]


# Trust


@every_family
@pytest.mark.parametrize("foil", [None, " bad and dull"])
def test_trust_is_the_measured_fall_without_the_highest_sources(family: str, foil: str | None) -> None:
    one = attributor(family)(MESSAGES, response=RESPONSE, foil=foil, sources="word", trust=True)
    trust, n = one.trust, len(one.scores)
    assert trust is not None
    assert (trust.k, trust.n_sources) == (max(1, n // 5), n)
    kept = torch.ones(3, n, dtype=torch.bool)
    kept[1, torch.tensor(one.scores).argsort(descending=True)[: trust.k]] = False
    kept[2] = False
    whole, without, nothing = log_probabilities(model(family), one.asked, kept).tolist()
    assert trust.drop == pytest.approx(whole - without, abs=1e-4)
    assert trust.everything == pytest.approx(whole - nothing, abs=1e-4)
    assert trust.per_token == trust.drop / len(one.response_ids)
    assert one.record()["trust"] == trust.record()
    assert f"without the top {trust.k} of {n} words" in one.view().facts[-1]


def test_every_draw_takes_as_many_sources_as_the_highest() -> None:
    """With one source each draw is that source; trust then measures one number three times."""
    one = attributor()("film", response=" good", trust=True, sources="message")
    assert one.trust is not None
    assert one.trust.drop == pytest.approx(one.trust.random)
    assert one.trust.drop == pytest.approx(one.trust.everything)
    assert DRAWS > 1


# The model and the method


def test_a_trained_explainer_reads_the_pass_that_gives_the_log_probability(tmp_path: Path) -> None:
    folder = Path(saved(model("qwen2"), tmp_path / "model"))
    explained = ExplainedModel.from_pretrained(folder, task=Response())
    explainer = built(ResponseExplainer, "qwen2")
    ResponseAttributor(explained, Amortized(explainer)).save_pretrained(tmp_path / "explainer")
    attribute = Attributor.from_pretrained(tmp_path / "explainer")
    assert isinstance(attribute, ResponseAttributor)
    passes: list[int] = []
    hook = attribute.explained.model.register_forward_hook(lambda *_: passes.append(1))
    one = attribute(MESSAGES, response=RESPONSE, sources="word")
    hook.remove()
    assert len(passes) == 1
    assert any(one.scores)
    expected = attributor("qwen2")(MESSAGES, response=RESPONSE).log_probability
    assert one.log_probability == pytest.approx(expected, abs=1e-4)
    for other in (
        ResponseAttributor.from_pretrained(tmp_path / "explainer"),
        ResponseAttributor.of(folder, str(tmp_path / "explainer")),
        ResponseAttributor.of(explained, Amortized(explainer)),
    ):
        assert close(other(MESSAGES, response=RESPONSE, sources="word"), one)
    assert one.span("fun").trust is None


def test_an_attributor_of_a_language_model_is_one_of_responses(tmp_path: Path) -> None:
    folder = saved(model("qwen2"), tmp_path)
    made = Attributor.of(folder, "leave_one_out", task=Response(), dtype=torch.bfloat16)
    assert isinstance(made, ResponseAttributor)
    assert made.explained.model.dtype == torch.bfloat16
    own = ResponseAttributor.of(folder, "leave_one_out", dtype=torch.bfloat16)
    assert own(MESSAGES, response=" fun").record() == made(MESSAGES, response=" fun").record()
    assert isinstance(Attributor.of(model("qwen2")), ResponseAttributor)
    with pytest.raises(ValueError, match="`model` is loaded already: leave `task`, `dtype` out"):
        Attributor.of(model("qwen2"), task=Response(), dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="`explained` has the task `Response`: take `ResponseAttributor"):
        Attributor(model("qwen2"), Random())
    with pytest.raises(ValueError, match="`explained` must have the task `Response`, got TextClassification"):
        ResponseAttributor(classifier("bert"), Random())


def test_the_contract_says_what_is_explained_and_what_is_held_fixed() -> None:
    one = attributor(method="leave_one_out")("the film was", response=" good fun", token=1, foil=" bad")
    assert one.contract == {
        "prompt": "the film was",
        "response_ids": list(one.response_ids),
        "target": [1, 2],
        "target_ids": [one.response_ids[1]],
        "score": "log_prob",
        "units": "nats",
        "sources": "token",
        "eligible": "the tokens of the prompt's contents",
        "held_fixed": "the response's tokens and the template's",
        "operator": "delete",
        "foil": one.contract["foil"],
        "foil_ids": one.contract["foil_ids"],
    }
    assert attributor()("the film was", response=" good").contract["operator"] is None
