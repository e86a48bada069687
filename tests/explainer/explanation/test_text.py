"""Explanations: made from scores and an answer, recorded, and captioned."""

import json
from typing import Any

import pytest
import torch

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, Target
from explainer.explained.readout import PREDICTED, RUNNER_UP
from explainer.explanation import Explanation, Trust, number, percent
from explainer.methods import SIG
from tests.families import TASKS, TEXTS, explained

PAIR = ("the film was great fun", "dull")


def example(**changes: object) -> Explanation:
    """[CLS] good ##ly film [SEP] Fun [SEP]"""
    values: dict[str, object] = {
        "text": "Goodly film",
        "text_pair": "Fun",
        "tokens": ["[CLS]", "good", "##ly", "film", "[SEP]", "fun", "[SEP]"],
        "input_ids": [2, 12, 28, 7, 3, 17, 3],
        "offsets": [(0, 0), (0, 4), (4, 6), (7, 11), (0, 0), (0, 3), (0, 0)],
        "scorable": [False, True, True, True, False, True, False],
        "words_of_tokens": [-1, 0, 0, 1, -1, 0, -1],
        "segments": [0, 0, 0, 0, 0, 1, 0],
        "scores": [0.0, 1.0, -3.0, 0.5, 0.0, 2.0, 0.0],
        "target": 1,
        "target_label": "good",
        "probabilities": [0.25, 0.75],
        "method": "sig",
        "probability": 0.75,
        "value": 1.5,
        "predicted_label": "good",
    }
    return Explanation(**(values | changes))  # type: ignore[arg-type]


REGRESSION: dict[str, Any] = {
    "target": 0,
    "target_label": "quality",
    "probabilities": None,
    "probability": None,
    "value": 3.2149,
    "predicted_label": None,
}


def made(model: ExplainedModel, target: Target, texts: tuple[str, str | None] = (TEXTS[0], None)) -> Explanation:
    """The explanation of one text by scores 0, 1, 2 ..."""
    (text,) = model.encode([texts[0]], [texts[1]])
    scores = torch.arange(len(text)).float() * text.scorable
    return Explanation.of(model, text, scores, target, model.predict([text.tokens]), "sig")


# Made from scores and an answer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_an_explanation_has_what_the_model_said(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    (text,) = model.encode([PAIR[0]], [PAIR[1]])
    readout = model.predict([text.tokens])
    explanation = made(model, Target.of([PREDICTED]), PAIR)
    best = int(readout.logits[0, 0].argmax())
    assert (explanation.target, explanation.target_label) == (best, model.labels[best])
    assert explanation.value == float(readout.logits[0, 0, best])
    assert (explanation.text, explanation.text_pair, explanation.method) == (*PAIR, "sig")
    assert explanation.input_ids == text.tokens.input_ids.tolist()
    assert explanation.scores == [float(i) if scorable else 0.0 for i, scorable in enumerate(explanation.scorable)]
    if task == "regression":
        assert (explanation.probability, explanation.probabilities, explanation.predicted_label) == (None, None, None)
    else:
        probabilities = (readout.logits.sigmoid() if task == "multi_label" else readout.logits.softmax(-1))[0, 0]
        assert explanation.probabilities == probabilities.tolist()
        assert explanation.probability == explanation.probabilities[best]
        assert explanation.predicted_label == model.labels[best]


def test_token_types_and_units_come_along_where_there_are_any() -> None:
    assert made(explained("bert"), Target.of([0]), PAIR).token_type_ids == [0] * 7 + [1] * 2
    assert made(explained("llama"), Target.of([0])).token_type_ids is None
    assert made(explained("bert"), Target.of([0])).units_of_tokens is None


def test_the_foil_is_named_and_its_stand_in_resolved() -> None:
    model = explained("bert")
    logits = model.predict([model.encode([TEXTS[0]])[0].tokens]).logits[0, 0]
    first, second, _ = logits.argsort(descending=True).tolist()
    explanation = made(model, Target.of([PREDICTED], foil=[RUNNER_UP], score="log_odds"))
    assert (explanation.target, explanation.foil_label, explanation.score) == (first, model.labels[second], "log_odds")
    assert explanation.value == float(logits[first])


def test_a_target_of_several_questions_is_a_list_of_indices() -> None:
    model = explained("bert")
    (text,) = model.encode([TEXTS[0]])
    readout = model.predict([text.tokens])
    both = type(readout)(readout.logits.expand(1, 2, -1))
    explanation = Explanation.of(model, text, torch.zeros(len(text)), Target(torch.tensor([[0, 2]])), both, "sig")
    assert explanation.target == [0, 2]
    assert explanation.target_label == f"{model.labels[0]}, {model.labels[2]}"
    assert explanation.probabilities is None
    assert explanation.probability == pytest.approx(float(readout.logits.softmax(-1)[0, 0, [0, 2]].prod()))


def test_words_of_a_real_text_are_its_own_and_keep_the_sum() -> None:
    text = "The plot, goodly  FILM!"
    explanation = Attributor(explained("bert"), SIG())([text])[0]
    words = explanation.words()
    assert [word.word for word in words] == ["The", "plot", ",", "goodly", "FILM", "!"]
    assert all(text[word.start : word.end] == word.word for word in words)
    assert sum(word.score for word in words) == pytest.approx(sum(explanation.scores), abs=1e-6)


# The record


def test_the_record_is_json_with_its_keys_in_order() -> None:
    record = example().record()
    assert json.loads(json.dumps(record)) == record | {"offsets": [list(pair) for pair in example().offsets]}
    assert list(record) == [
        "tokens",
        "input_ids",
        "offsets",
        "scorable",
        "scores",
        "target",
        "target_label",
        "probabilities",
        "method",
        "probability",
        "value",
        "predicted_label",
    ]


def test_the_record_says_more_where_there_is_more() -> None:
    plain = list(example().record())
    record = example(token_type_ids=[0] * 7, foil_label="bad", trust=Trust(0.5, 0.25)).record()
    assert list(record) == [*plain, "token_type_ids", "foil_label", "score", "trust"]
    assert record["trust"] == {"comprehensiveness": 0.5, "sufficiency": 0.25, "faithfulness": 0.25}
    assert example(score="log_prob").record()["score"] == "log_prob"
    assert json.loads(json.dumps(example(**REGRESSION).record()))["probabilities"] is None


# The caption


def test_the_headline_is_the_target_and_its_number() -> None:
    assert example().caption.headline == "good 75.0%"
    assert example(**REGRESSION).caption.headline == "quality = 3.21"
    # Every label of a multi-label model has its own probability, and these need not sum to one.
    assert example(probabilities=[0.9, 0.75]).caption.headline == "good 75.0%"


def test_another_prediction_is_named() -> None:
    assert example().caption.remarks == ()
    other = example(target=0, target_label="bad", probability=0.25)
    assert other.caption.remarks == ("predicted: good 75.0%",)
    assert example(target=0, target_label="bad", probability=0.25, predicted_label=None).caption.remarks == (
        "predicted: class 1 75.0%",
    )


def test_a_label_with_more_than_one_half_is_predicted_itself() -> None:
    assert example(probabilities=[0.9, 0.75], predicted_label="bad").caption.remarks == ()
    assert example(probabilities=[0.9, 0.4], probability=0.4, predicted_label="bad").caption.remarks == (
        "predicted: bad 90.0%",
    )


def test_the_probability_is_found_among_those_of_all_labels() -> None:
    old = example(probability=None, value=None, predicted_label=None)  # as shards of format 1 have it
    assert old.caption == example().caption


def test_foil_and_score_are_in_the_caption() -> None:
    caption = example(foil_label="bad", score="log_odds").caption
    assert caption.target == "good rather than bad"
    assert caption.headline == "good 75.0% rather than bad"
    assert caption.remarks == ("score: log_odds",)


def test_trust_is_in_the_caption() -> None:
    trusted = example(trust=Trust(comprehensiveness=0.0312345, sufficiency=-0.5))
    assert trusted.caption.remarks == ("comprehensiveness 0.0312", "sufficiency -0.5")


def test_several_targets_are_classes_or_values() -> None:
    assert (example().caption.kind, example(**REGRESSION).caption.kind) == ("class", "value")


def test_percentages_are_never_certain() -> None:
    assert [percent(p) for p in (1.0, 0.99999, 0.5, 0.0001, 0.0)] == ["100.0%", ">99.9%", "50.0%", "<0.1%", "0.0%"]


def test_values_are_never_written_in_powers_of_ten_above_a_thousand() -> None:
    assert [number(value) for value in (0.0, -2.5, 999.4, 1234.5, -1e6)] == ["0", "-2.5", "999", "1,234", "-1,000,000"]


# Showing it


def test_an_explanation_shows_itself_everywhere(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    explanation = example()
    explanation.show(width=40)
    assert "+film" in capsys.readouterr().out
    assert "Goodly" in explanation._repr_html_()
    assert explanation.__rich__().scored == {"sig": explanation}
    path = f"{tmp_path}/page.html"
    explanation.to_html(path, level="token")
    with open(path, encoding="utf-8") as file:
        assert 'data-mark="##"' in file.read()
    assert explanation.plot(level="token").texts


def test_a_regression_is_shown_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    example(**REGRESSION).show(width=60)
    assert capsys.readouterr().out.startswith("quality = 3.21 · by sig\n")
