"""Outputs of other tools, real where they are installed and else objects of their shape, and ours for them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from explainer.attributor import Attributor
from explainer.commands.evaluate import evaluate
from explainer.evaluation.comparison import Comparison, TargetedTexts
from explainer.explained import ExplainedModel
from explainer.explanation import Explanation
from explainer.interchange import (
    Recorded,
    from_captum,
    from_ferret,
    from_inseq,
    from_lime,
    from_shap,
    from_transformers_interpret,
    to_pandas,
    to_shap,
)
from explainer.interchange.alignment import of_spans, spans_of
from explainer.methods import InputXGradient
from tests.explainer.explained.test_responses import model as language_model
from tests.explainer.tools import saved
from tests.families import explained

TEXT = "good bad, good fine"


@pytest.fixture(scope="module")
def model() -> ExplainedModel:
    return explained("bert")


def ids_of(model: ExplainedModel, text: str = TEXT) -> list[int]:
    return model.tokenizer(text)["input_ids"]


def sum_of(explanation: Explanation) -> float:
    return sum(explanation.scores)


def test_captum_itself_gives_what_our_own_method_gives(model: ExplainedModel) -> None:
    attr = pytest.importorskip("captum.attr")
    ids = torch.tensor([ids_of(model)])
    embeddings = model.embedding(ids).detach().requires_grad_()
    run = lambda rows: model.model(inputs_embeds=rows).logits[:, 1]  # noqa: E731
    scores = attr.InputXGradient(run).attribute(embeddings)
    theirs = from_captum(model, TEXT, ids, scores, target=1)
    ours = Attributor(model, InputXGradient())(TEXT, target=1)
    assert theirs.scores == pytest.approx(ours.scores, abs=1e-6)
    assert (theirs.target, theirs.method, theirs.probability) == (1, "captum", pytest.approx(ours.probability))


def test_captum_s_shapes(model: ExplainedModel) -> None:
    ids = ids_of(model)
    flat = torch.randn(len(ids))
    expected = from_captum(model, TEXT, ids, flat, 0).scores
    assert from_captum(model, TEXT, torch.tensor([ids]), flat[None], 0).scores == expected
    deep = torch.stack([flat - 1, torch.ones(len(ids))], dim=1)
    assert from_captum(model, TEXT, ids, deep[None], 0).scores == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"`attributions` must be \(seq\) or \(seq, hidden\)"):
        from_captum(model, TEXT, ids, flat[:-1], 0)
    with pytest.raises(ValueError, match="another tokenizer"):
        from_captum(model, "good", ids, flat, 0)
    with pytest.raises(ValueError, match="not all finite"):
        from_captum(model, TEXT, ids, torch.full((len(ids),), torch.nan), 0)


def test_pieces_of_shap_are_shared_out_to_tokens(model: ExplainedModel) -> None:
    values = np.array([[0.0] * 3, [1.0, 2.0, 3.0], [0.5, -1.0, 0.0], [4.0, 4.0, 4.0], [0.0] * 3])
    one = SimpleNamespace(values=values, data=np.array(["", "good ", "bad, ", "good fine", ""], dtype=object))
    found = from_shap(model, one, target=1)
    assert sum_of(found) == pytest.approx(5.0)
    words = {(word.word, word.start): word.score for word in found.words()}
    assert words["good", 0] == pytest.approx(2.0)
    assert words["good", 10] == pytest.approx(words["fine", 15]) == pytest.approx(2.0)
    single = SimpleNamespace(values=values[:, 1], data=one.data)
    assert from_shap(model, single, target=1).scores == found.scores
    with pytest.raises(ValueError, match=r"explanation\[0\]"):
        from_shap(model, SimpleNamespace(values=values[:2], data=one.data), target=1)


class Words:
    """`IndexedString` of lime."""

    def raw_string(self) -> str:
        return TEXT

    def word(self, number: int) -> str:
        return ["good", "bad", "fine"][number]

    def string_position(self, number: int) -> np.ndarray:
        return np.array([[0, 10], [5], [15]][number])


def test_the_occurrences_of_a_word_share_lime_s_weight(model: ExplainedModel) -> None:
    mapper = SimpleNamespace(indexed_string=Words())
    one = SimpleNamespace(as_map=lambda: {1: [(0, 0.5), (2, -0.25)]}, domain_mapper=mapper)
    found = from_lime(model, one, target=1)
    scores = {(word.word.strip(","), word.start): word.score for word in found.words()}
    assert scores["good", 0] == scores["good", 10] == pytest.approx(0.25)
    assert scores["fine", 15] == pytest.approx(-0.25)
    assert scores["bad", 5] == 0.0
    with pytest.raises(ValueError, match="a label that LIME explained"):
        from_lime(model, one, target=0)


def test_lime_itself(model: ExplainedModel) -> None:
    lime_text = pytest.importorskip("lime.lime_text")

    def probabilities(texts: list[str]) -> np.ndarray:
        answers = model.predict([text.tokens for text in model.encode([text or "bad" for text in texts])])
        return answers.probabilities[:, 0].numpy()

    made = lime_text.LimeTextExplainer(random_state=0).explain_instance(TEXT, probabilities, labels=[1], num_samples=20)
    found = from_lime(model, made, target=1)
    assert sum_of(found) == pytest.approx(sum(weight for _, weight in made.as_map()[1]), abs=1e-5)


def test_tokens_of_ferret_and_transformers_interpret(model: ExplainedModel) -> None:
    tokens = model.tokenizer.convert_ids_to_tokens(ids_of(model))
    scores = np.arange(len(tokens), dtype=float)
    one = SimpleNamespace(text=TEXT, tokens=tokens, scores=scores, explainer="Gradient", target=2)
    found = from_ferret(model, one)
    assert found.scores[1:-1] == scores[1:-1].tolist()
    assert (found.scores[0], found.target, found.method) == (0.0, 2, "Gradient")
    newer = SimpleNamespace(**{**vars(one), "target_pos_idx": 1, "target": "b"})
    assert from_ferret(model, newer).target == 1
    pairs = list(zip(tokens, scores.tolist(), strict=True))
    assert from_transformers_interpret(model, TEXT, pairs, target=2).scores == found.scores


def test_ferret_itself(model: ExplainedModel) -> None:
    ferret = pytest.importorskip("ferret", exc_type=ImportError)
    one = ferret.GradientExplainer(model.model, model.tokenizer, multiply_by_inputs=True)(TEXT, target=1)
    found = from_ferret(model, one)
    assert found.scores[1:-1] == pytest.approx(one.scores[1:-1].tolist(), abs=1e-6)
    assert found.target == 1


def test_transformers_interpret_itself(model: ExplainedModel) -> None:
    package = pytest.importorskip("transformers_interpret")
    explainer = package.SequenceClassificationExplainer(model.model, model.tokenizer)
    pairs = explainer(TEXT, index=1, n_steps=2)
    found = from_transformers_interpret(model, TEXT, pairs, target=1)
    assert found.scores[1:-1] == pytest.approx([score for _, score in pairs[1:-1]], abs=1e-6)


def test_what_is_read_is_evaluated_and_compared(model: ExplainedModel, tmp_path: Path) -> None:
    texts = [TEXT, "bad fine"]
    given = [from_captum(model, text, ids_of(model, text), torch.randn(len(ids_of(model, text))), 1) for text in texts]
    lines = tmp_path / "theirs.jsonl"
    lines.write_text("".join(json.dumps(one.record()) + "\n" for one in given))
    evaluate(saved(model, tmp_path / "model"), lines, tmp_path / "metrics.json", metrics=["comprehensiveness"])
    expected = json.loads((tmp_path / "metrics.json").read_text())["comprehensiveness"]["values"]
    comparison = Comparison({"theirs": Recorded(tuple(given)), "ours": InputXGradient()})
    encoded, target = model.encode(texts), model.task.target(1, 2)
    comparison.update(model, TargetedTexts(encoded, target))
    assert comparison.rows["theirs"].values["comprehensiveness"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="1 of 2 texts are missing"):
        Recorded(tuple(given[:1])).attribute(model, encoded, target)


def test_inseq_s_prompt_becomes_sources() -> None:
    model = language_model("llama")
    prompt = "good bad fine"
    ids = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tokens = [SimpleNamespace(token=str(i), id=i) for i in [*ids, *ids[:2]]]
    scores = torch.arange(len(tokens) * 2.0).reshape(len(tokens), 2, 1).repeat(1, 1, 3)
    scores[-1, 0] = torch.nan
    sequence = SimpleNamespace(target=tokens, target_attributions=scores, attr_pos_start=len(ids))
    record = from_inseq(model, sequence, prompt, "good bad")
    assert [source["score"] for source in record["sources"]] == [3 * (4.0 * i + 1) for i in range(len(ids))]
    assert "".join(prompt[one["start"] : one["end"]] for one in record["sources"]).split() == prompt.split()
    assert record["contract"] == {"prompt": prompt}
    with pytest.raises(ValueError, match="must begin with the tokens of `prompt`"):
        from_inseq(model, sequence, "fine", "good bad")


def test_inseq_itself(tmp_path: Path) -> None:
    inseq = pytest.importorskip("inseq")
    model, prompt, response = language_model("llama"), "good bad fine", "good bad"
    theirs = inseq.load_model(saved(model, tmp_path), "input_x_gradient")
    (sequence,) = theirs.attribute(prompt, f"{prompt} {response}", show_progress=False).sequence_attributions
    record = from_inseq(model, sequence, prompt, response)
    n = len(model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    expected = sequence.target_attributions[sequence.attr_pos_start - n : sequence.attr_pos_start].sum(dim=(1, 2))
    assert [one["score"] for one in record["sources"]] == pytest.approx(expected.tolist(), abs=1e-6)
    assert "".join(prompt[one["start"] : one["end"]] for one in record["sources"]).split() == prompt.split()


def test_stretches_keep_their_sums_and_must_have_tokens(model: ExplainedModel) -> None:
    (text,) = model.encode([TEXT])
    assert of_spans(text, [(0, 9), (10, 19)], [1.0, -3.0]).sum().item() == pytest.approx(-2.0)
    scorable = text.scorable.clone()
    scorable[len(scorable) // 2 :] = False
    cut = replace(text, scorable=scorable)  # as if the model had not read its end
    with pytest.raises(ValueError, match="where the model has no token"):
        of_spans(cut, [(15, 19)], [1.0])
    with pytest.raises(ValueError, match="does not follow"):
        spans_of("A gem.", ["gem"])


def test_shap_itself(model: ExplainedModel) -> None:
    shap = pytest.importorskip("shap")

    def logits(texts: np.ndarray) -> np.ndarray:
        encoded = model.encode([text or "bad" for text in texts])
        return model.predict([text.tokens for text in encoded]).logits[:, 0].numpy()

    made = shap.Explainer(logits, shap.maskers.Text(model.tokenizer))([TEXT], fixed_context=1, silent=True)
    found = from_shap(model, made[0], target=1)
    words = [bool(piece.strip()) for piece in made[0].data]
    assert sum_of(found) == pytest.approx(made[0].values[words, 1].sum(), abs=1e-5)
    again = to_shap(found)
    assert again.values.tolist() == [word.score for word in found.words()]
    assert "good" in shap.plots.text(again, display=False)


def test_ours_for_shap_and_pandas(model: ExplainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType("shap")
    stand_in.Explanation = lambda **given: SimpleNamespace(**given)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shap", stand_in)
    ours = Attributor(model, InputXGradient())(TEXT, target=1)
    made = to_shap(ours)
    assert made.base_values + made.values.sum() == pytest.approx(ours.value, abs=1e-5)
    assert list(made.data) == [word.word for word in ours.words()]
    assert len(to_shap(ours, words=False).values) == sum(ours.scorable)
    table = to_pandas([ours, ours])
    assert len(table) == 2 * len(ours.words())
    assert table["score"].sum() == pytest.approx(2 * sum_of(ours), abs=1e-5)
    assert set(table["target"]) == {ours.target_label}
