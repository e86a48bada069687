"""The attributor: explanations of texts, and exported folders that load to the bit or say what is wrong."""

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, TextClassification
from explainer.explainers import EXPLAINERS
from explainer.explainers.folder import is_exported
from explainer.explanation import Explanation
from explainer.methods import METHODS, SIG
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import spearman
from tests.explainer.tools import LABEL_EXPLAINERS, LORA_WARNINGS, change_config, fresh, moved
from tests.families import TASKS, TEXTS, explained

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", LABEL_EXPLAINERS)


def sig() -> Attributor:
    return Attributor(explained("bert"), SIG())


def save_model(model: ExplainedModel, folder: Path) -> Path:
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def exported(root: Path, kind: str = "separate", family: str = "bert") -> Attributor:
    """root/model and, referring to it, root/attributor: what was exported."""
    model = ExplainedModel.from_pretrained(save_model(explained(family), root / "model"))
    attributor = Attributor(model, Amortized(moved(model, kind)))
    attributor.save_pretrained(root / "attributor")
    return attributor


# Texts in, explanations out


def test_explanations_come_in_order_and_hold_their_text() -> None:
    explanations = sig()(TEXTS)
    assert [explanation.text for explanation in explanations] == TEXTS
    for explanation in explanations:
        n = len(explanation.tokens)
        assert {
            len(explanation.scores),
            len(explanation.offsets),
            len(explanation.scorable),
            len(explanation.input_ids),
        } == {n}
        assert sum(explanation.probabilities) == pytest.approx(1, abs=1e-5)
        assert explanation.method == "sig"
        assert explanation.target == max(range(3), key=lambda c: explanation.probabilities[c])
        assert explanation.target_label == explained("bert").labels[explanation.target]


def test_explanations_of_a_text_do_not_depend_on_the_others() -> None:
    together, alone = sig()(TEXTS)[1], sig()(TEXTS[1:2])[0]
    assert together.tokens == alone.tokens
    assert together.scores == pytest.approx(alone.scores, abs=1e-6)


def test_no_texts_have_no_explanations() -> None:
    assert sig()([]) == []


def test_an_empty_text_has_no_scored_tokens() -> None:
    empty, other = sig()(["", "fun film"])
    assert empty.words() == []
    assert not any(empty.scorable)
    assert set(empty.scores) == {0.0}
    assert len(other.words()) == 2


def test_one_target_is_for_all_texts_and_a_list_is_one_per_text() -> None:
    model = explained("bert")
    names = TextClassification(("bad", "so-so", "good"))
    attributor = Attributor(ExplainedModel(model.model, model.tokenizer, task=names), SIG())
    assert [e.target for e in attributor(TEXTS, target="GOOD")] == [2, 2, 2, 2]
    mixed = attributor(TEXTS, target=["bad", 2, "predicted", "1"])
    assert [e.target for e in mixed] == [0, 2, attributor(TEXTS)[2].target, 1]
    assert mixed[1].scores == pytest.approx(attributor(TEXTS, target=2)[1].scores, abs=1e-6)


def test_another_number_of_targets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`target` must be one target, or one per text \(4\), got 2"):
        sig()(TEXTS, target=[0, 1])


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`target` must be 'predicted', one of the labels"):
        sig()(TEXTS, target="marvellous")


def test_pairs_are_explained_in_both_texts() -> None:
    explanation = sig()(["the film"], ["was good"])[0]
    assert [(word.word, word.segment) for word in explanation.words()] == [
        ("the", 0),
        ("film", 0),
        ("was", 1),
        ("good", 1),
    ]


def test_a_stream_gives_what_a_call_gives_and_reads_no_further_than_a_chunk() -> None:
    read: list[str] = []

    def source():
        for text in TEXTS:
            read.append(text)
            yield text

    stream = sig().stream(source(), chunk_size=2, target=1)
    first = next(stream)
    assert read == TEXTS[:2]
    assert [first, *stream] == [e for chunk in (TEXTS[:2], TEXTS[2:]) for e in sig()(chunk, target=1)]


def test_one_text_gives_one_explanation() -> None:
    one = sig()(TEXTS[1])
    assert isinstance(one, Explanation)
    assert one == sig()([TEXTS[1]])[0]
    assert sig()("the film", "was good") == sig()(["the film"], ["was good"])[0]
    assert sig()({"text": "the film", "text_pair": "was good"}) == sig()("the film", "was good")


def test_any_other_iterable_streams() -> None:
    expected = sig()(TEXTS)
    data = datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0, 1]})
    for given in (iter(TEXTS), (text for text in TEXTS), data, data["text"], data.to_iterable_dataset()):
        stream = sig()(given)
        assert isinstance(stream, Iterator)
        assert list(stream) == expected
    assert sig()(tuple(TEXTS)) == expected


def test_a_stream_may_have_pairs_and_refuses_a_target_per_text() -> None:
    texts, pairs = ["the film", "a movie"], ["was good", None]
    assert list(sig()(iter(texts), iter(pairs))) == sig()(texts, pairs)
    with pytest.raises(ValueError, match="`target` must be one for all texts of a stream"):
        sig()(iter(TEXTS), target=[0, 1, 2, 0])


def test_several_classes_give_one_explanation_each() -> None:
    labels = explained("bert").labels
    every = sig()(TEXTS, targets="all")
    assert [list(by_label) for by_label in every] == [labels] * len(TEXTS)
    for i, label in enumerate(labels):
        alone = sig()(TEXTS, target=label)
        assert [by_label[label].target for by_label in every] == [i] * len(TEXTS)
        for by_label, expected in zip(every, alone, strict=True):
            assert by_label[label].scores == pytest.approx(expected.scores, abs=1e-5)
    some = sig()(TEXTS[0], targets=[2, "predicted"])
    predicted = sig()(TEXTS[0]).target_label
    assert list(some) == list(dict.fromkeys(["LABEL_2", predicted]))
    assert [list(by_label) for by_label in sig()(iter(TEXTS), targets=["LABEL_1"])] == [["LABEL_1"]] * len(TEXTS)
    assert sig()([], targets="all") == []


def test_equal_names_are_kept_apart() -> None:
    named = fresh("bert")
    named.model.config.id2label = {0: "spam", 1: "other", 2: "spam"}
    attributor = Attributor(ExplainedModel(named.model, named.tokenizer), SIG(n_steps=2))
    every = attributor("a good film", targets="all")
    assert list(every) == ["spam (0)", "other", "spam (2)"]
    assert [one.target for one in every.values()] == [0, 1, 2]
    assert list(attributor("a good film", targets=[0, "other"])) == ["spam", "other"]


def test_words_already_split_are_the_words_of_the_explanation() -> None:
    words = ["goodly", "film-plot", "dull!"]
    split, joined = sig()(words, is_split_into_words=True), sig()(" ".join(words))
    assert (split.text, split.offsets, split.scores) == (joined.text, joined.offsets, joined.scores)
    assert [word.word for word in split.words()] == words
    assert [split.text[word.start : word.end] for word in split.words()] == words
    both = sig()([words, ["fun"]], [["bad", "so-so"], None], is_split_into_words=True)
    assert [word.word for word in both[0].words() if word.segment == 1] == ["bad", "so-so"]
    assert [word.word for word in both[1].words()] == ["fun"]
    assert both[1].text_pair is None
    assert list(sig()(iter([words]), is_split_into_words=True)) == [split]


def test_texts_and_pairs_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"`text_pairs` must have one entry per text \(4\), got 1"):
        sig()(TEXTS, ["x"])


def test_an_explanation_has_the_method_s_label() -> None:
    assert Attributor(explained("bert"), METHODS["greedy_deletion"]())("bad").method == "greedy_deletion (bound)"


@every_kind
def test_half_precision_ranks_like_single(kind: str, tmp_path: Path) -> None:
    exported(tmp_path, kind)
    single = Attributor.from_pretrained(tmp_path / "attributor")(TEXTS[3], target=1)
    half = Attributor.from_pretrained(tmp_path / "attributor", dtype=torch.bfloat16)
    assert half.explained.model.dtype == torch.bfloat16
    explanation = half(TEXTS[3], target=1)
    own = torch.tensor(single.scorable)
    assert float(spearman(torch.tensor(explanation.scores)[own], torch.tensor(single.scores)[own])) > 0.9
    assert explanation.probabilities == pytest.approx(single.probabilities, abs=0.03)
    # An encoder of its own reads the text in single precision, whatever the explained model is in.
    assert (explanation.scores == single.scores) == (kind == "encoder")


# Every task


def answer(model: ExplainedModel, text: str, pair: str | None = None) -> Tensor:
    """The logits of the bare model for one text."""
    with torch.no_grad():
        return model.model(**model.tokenizer(text, pair, return_tensors="pt", return_token_type_ids=False)).logits[0]


PROBABILITIES: dict[str, Callable[[Tensor], list[float] | None]] = {
    "classification": lambda logits: logits.softmax(dim=-1).tolist(),
    "multi_label": lambda logits: logits.sigmoid().tolist(),
    "regression": lambda logits: None,
}
FEW_FAMILIES = ["bert", "llama", "t5"]


@pytest.mark.parametrize("family", FEW_FAMILIES)
@pytest.mark.parametrize("task", TASKS)
def test_probabilities_targets_and_values_are_those_of_the_bare_model(task: str, family: str) -> None:
    model = explained(family, **TASKS[task])
    attributor = Attributor.of(model, "input_x_gradient")
    for text, predicted, by_label in zip(TEXTS, attributor(TEXTS), attributor(TEXTS, targets="all"), strict=True):
        logits = answer(model, text)
        probabilities = PROBABILITIES[task](logits)
        assert predicted.target == int(logits.argmax())
        assert predicted.predicted_label == (None if probabilities is None else model.labels[predicted.target])
        assert [explanation.target for explanation in by_label.values()] == list(range(len(logits)))
        for explanation in by_label.values():
            assert explanation.probabilities == (probabilities and pytest.approx(probabilities, abs=1e-5))
            assert explanation.value == pytest.approx(float(logits[explanation.target]), abs=1e-5)
            assert explanation.probability == (
                probabilities and pytest.approx(probabilities[explanation.target], abs=1e-5)
            )
        assert by_label[predicted.target_label].scores == pytest.approx(predicted.scores, abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("score", ["logit", "log_prob", "log_odds"])
def test_a_score_explains_that_number(score: str, task: str) -> None:
    """By leaving out one word, with the bare model's own numbers."""
    model = explained("bert", **TASKS[task])
    attributor = Attributor.of(model, "leave_one_out")
    if (score, task) == ("log_prob", "regression"):
        with pytest.raises(ValueError, match="needs probabilities, and this model predicts values"):
            attributor("the film was bad", score=score)
        return
    numbers = [_number(answer(model, text)[None], score, task) for text in ("the film was bad", "the film bad")]
    explanation = attributor("the film was bad", target=0, score=score)
    assert explanation.words()[2].score == pytest.approx(numbers[0] - numbers[1], abs=1e-5)
    assert explanation.score == score


def _number(logits: Tensor, score: str, task: str) -> float:
    if score == "logit" or task == "regression":
        return float(logits[0, 0])
    p = float(logits.double().softmax(dim=-1)[0, 0] if task == "classification" else logits.double().sigmoid()[0, 0])
    return math.log(p) if score == "log_prob" else math.log(p / (1 - p))


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_a_foil_is_subtracted(task: str) -> None:
    """Of a method that is linear in the explained number."""
    attributor = Attributor.of(explained("bert", **TASKS[task]), "input_x_gradient")
    for explanation, by_label in zip(
        attributor(TEXTS, foil="runner_up"), attributor(TEXTS, targets="all"), strict=True
    ):
        ranking = sorted(by_label.values(), key=lambda one: -one.value)
        assert (explanation.target_label, explanation.foil_label) == tuple(one.target_label for one in ranking[:2])
        expected = torch.tensor(ranking[0].scores) - torch.tensor(ranking[1].scores)
        assert explanation.scores == pytest.approx(expected.tolist(), abs=1e-5)
    named = attributor(TEXTS, target=0, foil="LABEL_2")
    assert {(one.target, one.foil_label) for one in named} == {(0, "LABEL_2")}


def test_a_foil_needs_another_output_and_another_label() -> None:
    with pytest.raises(ValueError, match="one output only"):
        Attributor.of(explained("bert", labels=1), "sig")("bad", foil="runner_up")
    with pytest.raises(ValueError, match="`foil` is the target"):
        sig()("bad", target=1, foil=1)


def test_a_regression_with_several_values_needs_a_named_one() -> None:
    attributor = Attributor.of(explained("bert", problem_type="regression"), "sig")
    with pytest.raises(ValueError, match="`target` must name one of the values"):
        attributor("bad")
    assert [one.value for one in attributor("bad", targets="all").values()] == pytest.approx(
        answer(attributor.explained, "bad").tolist(), abs=1e-5
    )


# Units


SENTENCES = "the film was dull . but the plot is fun !"


def test_a_unit_is_left_out_whole_and_its_score_is_shared_evenly() -> None:
    model = explained("bert")
    explanation = Attributor.of(model, "leave_one_out")(SENTENCES, target=1, units="sentence")
    first, second = explanation.units()
    assert (first.word, second.word) == ("the film was dull .", "but the plot is fun !")
    whole = answer(model, SENTENCES)[1]
    assert first.score == pytest.approx(float(whole - answer(model, second.word)[1]), abs=1e-5)
    assert second.score == pytest.approx(float(whole - answer(model, first.word)[1]), abs=1e-5)
    own = [score for score, scorable in zip(explanation.scores, explanation.scorable, strict=True) if scorable]
    assert own == pytest.approx([first.score / 5] * 5 + [second.score / 6] * 6, abs=1e-6)


@pytest.mark.parametrize("method", ["input_x_gradient", "attn_lrp", "random"])
@pytest.mark.parametrize("units", ["word", "sentence", "paragraph", [(0, 8), (20, 41)]])
def test_methods_that_score_tokens_sum_them_up(units: Any, method: str) -> None:
    attributor = Attributor.of(explained("bert"), method)
    plain, in_units = attributor(SENTENCES), attributor(SENTENCES, units=units)
    expected = plain.units(units)
    assert [unit.score for unit in in_units.units()] == pytest.approx([unit.score for unit in expected], abs=1e-5)
    assert sum(in_units.scores) == pytest.approx(sum(plain.scores), abs=1e-5)
    for start, end, score in ((unit.start, unit.end, unit.score) for unit in in_units.units()):
        inside = [
            own
            for own, offset, scorable in zip(in_units.scores, in_units.offsets, in_units.scorable, strict=True)
            if scorable and start <= offset[0] < end
        ]
        assert inside == pytest.approx([score / len(inside)] * len(inside), abs=1e-5)


def test_character_ranges_are_those_of_one_text() -> None:
    for texts in ([SENTENCES], iter([SENTENCES])):
        with pytest.raises(ValueError, match="`units` as character ranges are those of one text"):
            sig()(texts, units=[(0, 8)])


# A model and a method by their names


def test_a_model_and_a_method_by_their_names(tmp_path: Path) -> None:
    save_model(explained("bert"), tmp_path)
    attributor = Attributor.of(tmp_path, method="sig", n_steps=5)
    assert attributor.method == SIG(n_steps=5)
    assert attributor(TEXTS) == Attributor(explained("bert"), SIG(n_steps=5))(TEXTS)
    assert Attributor.of(str(tmp_path)).method == METHODS["attn_lrp"]()
    assert Attributor.of(explained("bert"), SIG()).explained is explained("bert")


def test_an_exported_explainer_by_its_folder_shares_the_model(tmp_path: Path) -> None:
    attributor = exported(tmp_path, "lora")
    loaded = Attributor.of(tmp_path / "model", method=str(tmp_path / "attributor"))
    assert loaded(TEXTS, target=1) == attributor(TEXTS, target=1)
    assert loaded.method.explained is None
    assert loaded.refine(TEXTS[0], steps=2).scores == attributor.refine(TEXTS[0], steps=2).scores


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "no_method"}, "`method` must be one of"),
        ({"method": "sig", "steps": 3}, "`settings` of method 'sig'"),
        ({"method": "sig", "foil": "LABEL_9"}, "`foil` must be"),
    ],
)
def test_unknown_methods_settings_and_foils_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Attributor.of(explained("bert"), **options)("bad")


def test_settings_of_every_method_are_the_options_of_a_call() -> None:
    wrapped = Attributor.of(explained("bert"), "input_x_gradient", foil="runner_up", score="log_odds")
    plain = Attributor.of(explained("bert"), "input_x_gradient")
    for own, given in zip(wrapped(TEXTS), plain(TEXTS, foil="runner_up", score="log_odds"), strict=True):
        assert (own.scores, own.target, own.foil_label) == (given.scores, given.target, given.foil_label)


# Refinement


def test_the_best_step_of_a_refinement_is_named_and_at_least_as_good(tmp_path: Path) -> None:
    attributor = exported(tmp_path)
    options = {"steps": 4, "learning_rate": 0.05, "trust": True}
    last = attributor.refine(TEXTS[1], **options)
    best = attributor.refine(TEXTS[1], best_by="comprehensiveness", **options)
    assert best.method == "explainer, 4 steps on the text (best of 5 by comprehensiveness)"
    assert best.trust.comprehensiveness >= last.trust.comprehensiveness - 1e-6
    assert attributor.refine(TEXTS[1], steps=0).scores == attributor(TEXTS[1]).scores


# Folders


@every_kind
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_saving_and_loading_is_equal_to_the_bit(kind: str, family: str, tmp_path: Path) -> None:
    attributor = exported(tmp_path, kind, family)
    loaded = Attributor.from_pretrained(tmp_path / "attributor")
    assert loaded(TEXTS, target=1) == attributor(TEXTS, target=1)
    assert loaded.explained.baseline_token_id == attributor.explained.baseline_token_id
    assert any(score != 0 for score in loaded(TEXTS)[0].scores)


def test_the_files_hold_what_was_trained_and_no_word_embeddings(tmp_path: Path) -> None:
    attributor = exported(tmp_path, "lora")
    names = set(load_file(tmp_path / "attributor" / "model.safetensors"))
    assert names == set(attributor.method.explainer.trained(attributor.explained))
    assert {path.name for path in (tmp_path / "attributor").iterdir()} == {"config.json", "model.safetensors"}


def test_weights_can_be_stored_smaller(tmp_path: Path) -> None:
    attributor = exported(tmp_path)
    attributor.save_pretrained(tmp_path / "small", dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(tmp_path / "small" / "model.safetensors").values()} == {torch.bfloat16}
    smaller, expected = (
        a(TEXTS, target=0)[0].scores for a in (Attributor.from_pretrained(tmp_path / "small"), attributor)
    )
    assert smaller == pytest.approx(expected, abs=0.05 * max(map(abs, expected)))
    assert smaller != expected


def test_both_folders_can_move_together(tmp_path: Path) -> None:
    attributor = exported(tmp_path / "here")
    expected = attributor(TEXTS)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert Attributor.from_pretrained(tmp_path / "there" / "attributor")(TEXTS) == expected


def test_a_relative_folder_loads_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attributor = exported(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Attributor.from_pretrained("attributor")(TEXTS) == attributor(TEXTS)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Attributor.from_pretrained("../attributor")(TEXTS) == attributor(TEXTS)


def test_the_explained_model_can_be_named(tmp_path: Path) -> None:
    attributor = exported(tmp_path)
    shutil.move(tmp_path / "model", tmp_path / "moved")
    with pytest.raises(ValueError, match="model"):
        Attributor.from_pretrained(tmp_path / "attributor")
    assert Attributor.from_pretrained(tmp_path / "attributor", model=tmp_path / "moved")(TEXTS) == attributor(TEXTS)


def test_options_go_to_the_explained_model(tmp_path: Path) -> None:
    exported(tmp_path)
    assert Attributor.from_pretrained(tmp_path / "attributor", batch_tokens=77).explained.batch_tokens == 77


def test_another_baseline_token_comes_back(tmp_path: Path) -> None:
    save_model(explained("bert"), tmp_path / "model")
    model = ExplainedModel.from_pretrained(tmp_path / "model", baseline_token="the")
    Attributor(model, Amortized(EXPLAINERS["separate"](model).eval())).save_pretrained(tmp_path / "attributor")
    loaded = Attributor.from_pretrained(tmp_path / "attributor")
    assert loaded.explained.baseline_token_id == model.baseline_token_id


# Texts longer than those of the training


def test_texts_far_beyond_those_of_the_training_give_a_warning_also_after_a_round_trip(tmp_path: Path) -> None:
    """The class embedding is placed after the last token: on far longer texts the network does not attend to it."""
    attributor = exported(tmp_path)
    attributor(["the film " * 8])  # nothing is known: nothing is said
    attributor.method.explainer.longest_text = 4  # type: ignore[attr-defined]
    attributor.save_pretrained(tmp_path / "attributor")
    loaded = Attributor.from_pretrained(tmp_path / "attributor")
    loaded(["the film was great , but it was not"])  # 12 tokens, with the special ones
    with pytest.warns(UserWarning, match=r"more than 12 tokens .* trained on has 4: .* `trust=True`"):
        loaded(["the film", "the film " * 8])


def test_an_explainer_that_joins_the_label_to_every_token_has_no_such_limit(tmp_path: Path) -> None:
    attributor = exported(tmp_path, "side")
    attributor.method.explainer.longest_text = 4  # type: ignore[attr-defined]
    assert len(attributor(["the film " * 8])[0].scores) > 12


# Refusals


def refused(folder: Path, match: str, **options: object) -> None:
    with pytest.raises(ValueError, match=match):
        Attributor.from_pretrained(folder, **options)  # type: ignore[arg-type]


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "model" / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"opera"'))
    refused(tmp_path / "attributor", r"The tokenizer of '.*model' is not the one")


def test_other_weights_are_refused_with_their_logits(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "model" / "model.safetensors"
    weights = load_file(path)
    weights["classifier.bias"] += torch.tensor([1.0, 0.0, 0.0])
    save_file(weights, path, metadata={"format": "pt"})
    refused(
        tmp_path / "attributor",
        r"'.*model' does not predict what the model .* \(logits \[.*\] instead of \[.*\] on a probe\)",
    )


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    save_model(explained("bert", labels=2), tmp_path / "other")
    refused(tmp_path / "attributor", r"'.*other' does not predict", model=tmp_path / "other")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{broken"])
def test_a_missing_or_broken_file_is_named(file: str, content: bytes | None, tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "attributor" / file
    path.unlink() if content is None else path.write_bytes(content)
    refused(tmp_path / "attributor", rf"{file}.*(missing|broken)")


def test_a_truncated_weights_file_is_named(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "attributor" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    refused(tmp_path / "attributor", r"model\.safetensors' is missing or broken")


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "attributor" / "model.safetensors"
    save_file(load_file(path) | {"label.shared": torch.ones(16)}, path)
    refused(tmp_path / "attributor", r"model\.safetensors' is broken: its bytes are not those that were exported")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    refused(tmp_path / "model", r"model' is no exported explainer: its config\.json")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"empty' is no exported explainer")


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    change_config(tmp_path / "attributor", explainer={"kind": "oracle"})
    refused(tmp_path / "attributor", "explainer of kind .oracle.")


BROKEN = {
    "a list": "[]",
    "no kind": {"explainer": {}},
    "an explainer that is no table": {"explainer": "separate"},
    "an unknown setting": {"explainer": {"kind": "lora", "depth": 3}},
    "no tokenizer hash": {"tokenizer_sha256": None},
    "no probe": {"probe_logits": None},
    "a length that is none": {"longest_text": "long"},
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_config_that_is_json_but_not_ours_is_refused_by_name(case: str, tmp_path: Path) -> None:
    exported(tmp_path)
    broken = BROKEN[case]
    if isinstance(broken, str):
        (tmp_path / "attributor" / "config.json").write_text(broken)
    else:
        change_config(tmp_path / "attributor", **broken)
    refused(tmp_path / "attributor", r"config\.json")


@pytest.mark.parametrize("name", ["no-such-folder", "nobody/no-such-explainer", "not a name"])
def test_neither_folder_nor_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' is neither a folder nor a hub id"):
        Attributor.from_pretrained(name)


def test_a_method_without_weights_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Method 'sig' has no weights to save"):
        sig().save_pretrained(tmp_path)


def test_a_model_without_a_name_is_not_exported(tmp_path: Path) -> None:
    model = fresh("bert")
    model.name = None
    attributor = Attributor(model, Amortized(EXPLAINERS["separate"](model).eval()))
    with pytest.raises(ValueError, match="has no `name`"):
        attributor.save_pretrained(tmp_path)


def test_names_with_a_slash_and_folders_may_be_attributors(tmp_path: Path) -> None:
    assert is_exported(str(tmp_path))
    assert is_exported("someone/an-explainer")
    assert not is_exported("sig")


def test_to_moves_model_and_explainer(tmp_path: Path) -> None:
    attributor = exported(tmp_path).to("cpu")
    assert attributor.explained.device.type == "cpu"
    assert next(attributor.method.explainer.parameters()).device.type == "cpu"


# Without Lightning


MODULES = [
    "explainer",
    "explainer.attributor",
    "explainer.commands.attribute",
    "explainer.rendering.plot",
    "explainer.rendering.terminal",
    "explainer.explainers.losses",
]


def test_the_package_never_imports_lightning() -> None:
    roots = "{name.split('.')[0] for name in sys.modules}"
    code = f"import sys, {', '.join(MODULES)}; print({roots} & {{'lightning', 'pytorch_lightning'}} or 'none')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert run.stdout.strip() == "none"
