"""ONNX files: ONNX Runtime gives what PyTorch gives, in a process that has no torch too."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from explainer.attributor import Attributor
from explainer.export import onnx as portable
from explainer.export.agreement import Agreement, agreement
from explainer.export.program import ExportableAttributor
from tests.explainer.tools import LORA_WARNINGS
from tests.families import TEXTS

pytestmark = LORA_WARNINGS
CASES = [("bert", "separate"), ("bert", "side"), *((f, "lora") for f in ("roberta", "modernbert", "gpt2", "llama"))]
EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_words.py"
Make = Callable[..., Attributor]


@pytest.fixture(scope="module")
def bert(make: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Attributor, Path]:
    """A LoRA explainer on a tiny BERT, and its file."""
    attributor, path = make(), tmp_path_factory.mktemp("onnx") / "model.onnx"
    attributor.to_onnx(path, texts=TEXTS)
    return attributor, path


def run(path: Path, texts: list[str], target: int) -> tuple[np.ndarray, np.ndarray]:
    """As a reader without our code runs it: the tokenizer's own file, no mask of specials."""
    encodings = Tokenizer.from_file(str(path.with_suffix(".tokenizer.json"))).encode_batch(texts)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {
        "input_ids": np.array([e.ids for e in encodings]),
        "attention_mask": np.array([e.attention_mask for e in encodings]),
        "token_type_ids": np.array([e.type_ids for e in encodings]),
        "target": np.full(len(texts), target),
    }
    return tuple(session.run(None, {i.name: inputs[i.name] for i in session.get_inputs()}))


def assert_same(attributor: Attributor, path: Path) -> None:
    """Batches of several lengths, among them the model's full one, for the predicted and for other classes."""
    long = " ".join(["film"] * 38)
    for texts, target in ((TEXTS, -1), (TEXTS[2:3], 2), ([*TEXTS[:2], long], 0)):
        logits, scores = run(path, texts, target)
        explanations = attributor(texts, target="predicted" if target == -1 else target)
        for row, score, explanation in zip(logits, scores, explanations, strict=True):
            n = len(explanation.scores)
            assert torch.from_numpy(row).softmax(0).tolist() == pytest.approx(explanation.probabilities, abs=1e-5)
            assert score[:n].tolist() == pytest.approx(explanation.scores, abs=1e-4)
            assert any(explanation.scores)
            assert not score[~np.array(explanation.scorable + [False] * (len(score) - n))].any()


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_onnx_runtime_gives_what_pytorch_gives(family: str, kind: str, make: Make, tmp_path: Path) -> None:
    attributor = make(family, kind)
    facts = attributor.to_onnx(tmp_path / "model.onnx", texts=TEXTS)
    assert facts["largest_difference"] < 1e-4
    assert_same(attributor, tmp_path / "model.onnx")


def test_a_lora_s_two_passes_are_in_one_file(bert: tuple[Attributor, Path]) -> None:
    assert_same(*bert)


def test_inputs_and_outputs_have_names_and_free_axes(bert: tuple[Attributor, Path]) -> None:
    session = onnxruntime.InferenceSession(bert[1], providers=["CPUExecutionProvider"])
    inputs = {i.name: i.shape for i in session.get_inputs()}
    both = ["batch", "seq"]
    assert inputs == {"input_ids": both, "attention_mask": both, "token_type_ids": both, "target": ["batch"]}
    assert {o.name: o.shape for o in session.get_outputs()} == {"logits": ["batch", 3], "scores": both}


def test_the_facts_beside_it_say_what_a_reader_needs(bert: tuple[Attributor, Path]) -> None:
    attributor, path = bert
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["labels"] == attributor.explained.labels
    assert facts["max_tokens"] == 40
    assert {p.name for p in path.parent.iterdir()} == {"model.onnx", "model.json", "model.tokenizer.json"}


ALONE = """
import runpy, sys
for name in ("torch", "transformers", "explainer", "onnx"):
    sys.modules[name] = None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_process_without_torch_gets_the_same_words(bert: tuple[Attributor, Path]) -> None:
    attributor, path = bert
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(path), *TEXTS]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, explanation in zip(shown.stdout.splitlines(), attributor(TEXTS), strict=True):
        found = json.loads(line)
        assert found["label"] == explanation.target_label
        words = explanation.words()
        assert [word for word, _ in found["words"]] == [word.word for word in words]
        assert [score for _, score in found["words"]] == pytest.approx([word.score for word in words], abs=1e-4)


def test_a_file_that_computes_something_else_is_not_left_behind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = portable._runner

    def wrong(file: Path):
        run = right(file)
        return lambda inputs: tuple(values + 1e-3 for values in run(inputs))

    monkeypatch.setattr(portable, "_runner", wrong)
    (tmp_path / "model.onnx").write_text("what was there before")
    with pytest.raises(ValueError, match=r"The ONNX file of 'tiny-bert' differs from PyTorch by 1\.0e-03"):
        make().to_onnx(tmp_path / "model.onnx", texts=TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "what was there before"


def test_what_onnx_cannot_express_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ONNX cannot express this attributor .*grouped_mm"):
        make("mixtral").to_onnx(tmp_path / "model.onnx", texts=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ImportError, match=r"ONNX needs onnxscript: pip install 'amortex\[onnx\]'"):
        make().to_onnx(tmp_path / "model.onnx")


# int8


def test_int8_is_smaller_and_says_what_it_costs(make: Make, tmp_path: Path) -> None:
    attributor, path = make(), tmp_path / "model.onnx"
    facts = attributor.to_onnx(path, int8=True, texts=TEXTS)
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(path).graph.node)
    loss = Agreement(**json.loads(path.with_suffix(".json").read_text())["int8"])
    assert facts["int8"] == loss.record()
    assert loss.n == len(TEXTS)
    assert 0.5 < loss.spearman < 1
    assert 0 < loss.largest_probability_difference < 0.2
    assert "Spearman" in str(loss)


def test_agreement_of_the_attributor_with_itself_is_full(make: Make) -> None:
    attributor = make()
    traced = ExportableAttributor(attributor.explained, attributor.method)
    found = agreement(lambda inputs: traced(**inputs), attributor.explained, attributor.method, TEXTS)
    assert found.spearman == pytest.approx(1, abs=1e-6)
    assert (found.top_20_overlap, found.changed_predictions) == (1.0, 0)
    assert found.largest_probability_difference < 1e-6


def test_agreement_counts_changed_predictions_and_turned_scores(make: Make) -> None:
    attributor = make()
    traced = ExportableAttributor(attributor.explained, attributor.method)

    def turned(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = traced(**inputs)
        return -logits, -scores

    found = agreement(turned, attributor.explained, attributor.method, TEXTS)
    assert found.spearman == pytest.approx(-1, abs=1e-6)
    assert found.changed_predictions == len(TEXTS)
