"""The attributor: explanations of texts, and exported folders that load to the bit or say what is wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file, save_file

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel
from explainer.explainers import EXPLAINERS
from explainer.explainers.folder import is_attributor
from explainer.explanation import Explanation
from explainer.methods import METHODS, SIG
from explainer.methods.trained.amortized import Amortized
from explainer.metrics import spearman
from tests.explainer.tools import LORA_WARNINGS, fresh, moved
from tests.families import TEXTS, explained

pytestmark = LORA_WARNINGS
every_kind = pytest.mark.parametrize("kind", EXPLAINERS)


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


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


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


def test_one_target_is_for_all_texts_and_a_list_is_one_a_text() -> None:
    model = fresh("bert")
    model.model.config.id2label = {0: "bad", 1: "so-so", 2: "good"}
    attributor = Attributor(model, SIG())
    assert [e.target for e in attributor(TEXTS, target="GOOD")] == [2, 2, 2, 2]
    mixed = attributor(TEXTS, target=["bad", 2, "predicted", "1"])
    assert [e.target for e in mixed] == [0, 2, attributor(TEXTS)[2].target, 1]
    assert mixed[1].scores == pytest.approx(attributor(TEXTS, target=2)[1].scores, abs=1e-6)


def test_another_number_of_targets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`target` must be one target, or one a text \(4\), got 2"):
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


def test_a_stream_may_have_pairs_and_refuses_a_target_a_text() -> None:
    texts, pairs = ["the film", "a movie"], ["was good", None]
    assert list(sig()(iter(texts), iter(pairs))) == sig()(texts, pairs)
    with pytest.raises(ValueError, match="`target` must be one for all texts of a stream"):
        sig()(iter(TEXTS), target=[0, 1, 2, 0])


def test_several_classes_give_one_explanation_each() -> None:
    labels = explained("bert").labels
    every = sig()(TEXTS, targets="all")
    assert [list(found) for found in every] == [labels] * len(TEXTS)
    for i, label in enumerate(labels):
        alone = sig()(TEXTS, target=label)
        assert [found[label].target for found in every] == [i] * len(TEXTS)
        for found, expected in zip(every, alone, strict=True):
            assert found[label].scores == pytest.approx(expected.scores, abs=1e-5)
    some = sig()(TEXTS[0], targets=[2, "predicted"])
    predicted = sig()(TEXTS[0]).target_label
    assert list(some) == list(dict.fromkeys(["LABEL_2", predicted]))
    assert [list(found) for found in sig()(iter(TEXTS), targets=["LABEL_1"])] == [["LABEL_1"]] * len(TEXTS)
    assert sig()([], targets="all") == []


def test_words_already_split_are_the_words_of_the_explanation() -> None:
    words = ["goodly", "film-plot", "dull!"]
    found, joined = sig()(words, is_split_into_words=True), sig()(" ".join(words))
    assert (found.text, found.offsets, found.scores) == (joined.text, joined.offsets, joined.scores)
    assert [word.word for word in found.words()] == words
    assert [found.text[word.start : word.end] for word in found.words()] == words
    both = sig()([words, ["fun"]], [["bad", "so-so"], None], is_split_into_words=True)
    assert [word.word for word in both[0].words() if word.segment == 1] == ["bad", "so-so"]
    assert [word.word for word in both[1].words()] == ["fun"]
    assert both[1].text_pair is None
    assert list(sig()(iter([words]), is_split_into_words=True)) == [found]


def test_texts_and_pairs_must_be_as_many() -> None:
    with pytest.raises(ValueError, match=r"`text_pairs` must have one entry a text \(4\), got 1"):
        sig()(TEXTS, ["x"])


def test_the_method_s_label_is_told() -> None:
    assert Attributor(explained("bert"), METHODS["greedy_deletion"]())("bad").method == "greedy_deletion (bound)"


@every_kind
def test_half_precision_ranks_like_single(kind: str, tmp_path: Path) -> None:
    exported(tmp_path, kind)
    single = Attributor.from_pretrained(tmp_path / "attributor")(TEXTS[3], target=1)
    half = Attributor.from_pretrained(tmp_path / "attributor", dtype=torch.bfloat16)
    assert half.explained.model.dtype == torch.bfloat16
    found = half(TEXTS[3], target=1)
    own = torch.tensor(single.scorable)
    assert float(spearman(torch.tensor(found.scores)[own], torch.tensor(single.scores)[own])) > 0.9
    assert found.probabilities == pytest.approx(single.probabilities, abs=0.03)
    assert found.scores != single.scores


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
    found, expected = (
        a(TEXTS, target=0)[0].scores for a in (Attributor.from_pretrained(tmp_path / "small"), attributor)
    )
    assert found == pytest.approx(expected, abs=0.05 * max(map(abs, expected)))
    assert found != expected


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


def test_texts_far_beyond_the_training_s_are_told_after_a_round_trip_too(tmp_path: Path) -> None:
    """The label's place lies behind the text: an explainer that has only seen it near does not read it far off."""
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


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "attributor" / "model.safetensors"
    weights = load_file(path)
    weights.pop("label.shared")
    save_file(weights, path)
    refused(tmp_path / "attributor", r"differ in 1 names, such as 'label\.shared'")


def test_a_weight_of_another_shape_is_named(tmp_path: Path) -> None:
    exported(tmp_path)
    path = tmp_path / "attributor" / "model.safetensors"
    save_file(load_file(path) | {"label.shared": torch.zeros(3)}, path)
    refused(tmp_path / "attributor", r"'label\.shared' has shape \(3,\) in the file, \(16,\)")


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
    assert is_attributor(str(tmp_path))
    assert is_attributor("someone/an-explainer")
    assert not is_attributor("sig")


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
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert found.stdout.strip() == "none"
