"""ONNX files: ONNX Runtime gives what PyTorch gives, in a process that has no torch too."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer

from explainer.attributor import Attributor
from explainer.explained import PREDICTED, ExplainedModel, Target
from explainer.export import onnx as portable
from explainer.export.agreement import Agreement
from explainer.export.onnx import write_onnx
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LORA_WARNINGS
from tests.families import TASKS, TEXTS

pytestmark = LORA_WARNINGS
CASES = [("bert", "separate"), *((f, "lora") for f in ("roberta", "modernbert", "gpt2", "llama"))]
EXAMPLE = Path(__file__).parents[3] / "examples" / "onnx_words.py"
Pair = tuple[ExplainedModel, Amortized]
Make = Callable[..., Pair]


@pytest.fixture(scope="module")
def bert(make: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Path]:
    """A LoRA explainer on a tiny BERT, and its file."""
    pair, path = make(), tmp_path_factory.mktemp("onnx") / "model.onnx"
    Attributor(*pair).to_onnx(path, texts=TEXTS)
    return pair, path


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


def assert_same(pair: Pair, path: Path, label: int = 2) -> None:
    """Batches of several lengths, among them the model's full one, for the predicted and for other labels."""
    model, method = pair
    long = " ".join(["film"] * 38)
    for texts, target in ((TEXTS, PREDICTED), (TEXTS[2:3], label), ([*TEXTS[:2], long], 0)):
        logits, scores = run(path, texts, target)
        encoded = model.encode(texts)
        readout, [attributions] = method.explain(model, encoded, [Target.of([target] * len(texts))])
        assert np.allclose(logits, readout.logits[:, 0], atol=1e-4)
        for padded, expected, text in zip(scores, attributions.scores, encoded, strict=True):
            assert padded[: len(text)] == pytest.approx(expected.numpy(), abs=1e-4)
            assert expected.any()
            assert not padded[len(text) :].any()
            assert not padded[: len(text)][~text.scorable.numpy()].any()


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_onnx_runtime_gives_what_pytorch_gives(family: str, kind: str, make: Make, tmp_path: Path) -> None:
    pair = make(family, kind)
    facts = write_onnx(*pair, tmp_path / "new" / "model.onnx", texts=TEXTS)
    assert facts["largest_difference"] < 1e-4
    assert_same(pair, tmp_path / "new" / "model.onnx")


@pytest.mark.parametrize(("task", "kind"), [("multi_label", "side"), ("regression", "lora")])
def test_every_task_is_written_with_its_link(task: str, kind: str, make: Make, tmp_path: Path) -> None:
    pair, path = make("bert", kind, **TASKS[task]), tmp_path / "model.onnx"
    facts = write_onnx(*pair, path, texts=TEXTS)
    assert (facts["task"], facts["link"]) == ("text-classification", pair[0].task.link)
    assert_same(pair, path, label=len(pair[0].labels) - 1)
    readout = pair[0].predict([text.tokens for text in pair[0].encode(TEXTS)])
    assert (facts["probabilities"] is None) == (readout.probabilities is None)
    name = "value" if readout.probabilities is None else "probability"
    answers = readout.logits if readout.probabilities is None else readout.probabilities
    records = runpy.run_path(str(EXAMPLE))["explain"](path, TEXTS)
    assert [record[name] for record in records] == pytest.approx(answers.amax(dim=(1, 2)).tolist(), abs=1e-4)


def test_several_values_have_no_predicted_one(make: Make, tmp_path: Path) -> None:
    pair, path = make("bert", "side", labels=2, problem_type="regression"), tmp_path / "model.onnx"
    write_onnx(*pair, path, texts=TEXTS)
    _, scores = run(path, TEXTS, 1)
    expected = pair[1].attribute(pair[0], pair[0].encode(TEXTS), Target.of([1] * 4)).scores
    for padded, own in zip(scores, expected, strict=True):
        assert padded[: len(own)] == pytest.approx(own.numpy(), abs=1e-4)
    assert np.isnan(run(path, TEXTS, PREDICTED)[1]).all()


def test_a_lora_s_two_passes_are_in_one_file(bert: tuple[Pair, Path]) -> None:
    assert_same(*bert)


def test_inputs_and_outputs_have_names_and_free_axes(bert: tuple[Pair, Path]) -> None:
    session = onnxruntime.InferenceSession(bert[1], providers=["CPUExecutionProvider"])
    inputs = {i.name: i.shape for i in session.get_inputs()}
    both = ["batch", "seq"]
    assert inputs == {"input_ids": both, "attention_mask": both, "token_type_ids": both, "target": ["batch"]}
    assert {o.name: o.shape for o in session.get_outputs()} == {"logits": ["batch", 3], "scores": both}


def test_the_facts_say_what_a_reader_needs(bert: tuple[Pair, Path]) -> None:
    (model, _), path = bert
    facts: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    assert facts["labels"] == model.labels
    assert facts["max_tokens"] == 40
    assert facts["special_token_ids"] == model.text.special_ids.tolist()
    assert (facts["task"], facts["link"]) == ("text-classification", "softmax")
    assert {p.name for p in path.parent.iterdir()} == {"model.onnx", "model.json", "model.tokenizer.json"}


ALONE = """
import runpy, sys
for name in ("torch", "transformers", "explainer", "onnx"):
    sys.modules[name] = None
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_process_without_torch_gets_the_same_words(bert: tuple[Pair, Path]) -> None:
    pair, path = bert
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(path), *TEXTS]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    for line, explanation in zip(shown.stdout.splitlines(), Attributor(*pair)(TEXTS), strict=True):
        record = json.loads(line)
        assert record["label"] == explanation.target_label
        assert record["probability"] == pytest.approx(explanation.probability, abs=1e-5)
        words = explanation.words()
        assert [word for word, _ in record["words"]] == [word.word for word in words]
        assert [score for _, score in record["words"]] == pytest.approx([word.score for word in words], abs=1e-4)


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
        write_onnx(*make(), tmp_path / "model.onnx", texts=TEXTS)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_text() == "what was there before"


def test_what_onnx_cannot_express_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ONNX cannot express this attributor .*grouped_mm"):
        write_onnx(*make("mixtral"), tmp_path / "model.onnx", texts=TEXTS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ImportError, match=r"ONNX needs onnxscript: pip install 'amortex\[onnx\]'"):
        write_onnx(*make(), tmp_path / "model.onnx")


# int8


def test_int8_is_smaller_and_says_what_it_costs(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    facts = write_onnx(*make(), path, int8=True, texts=TEXTS)
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(path).graph.node)
    loss = Agreement(**json.loads(path.with_suffix(".json").read_text())["int8"])
    assert facts["int8"] == loss.record()
    assert loss.n == len(TEXTS)
    assert 0.5 < loss.spearman < 1
    assert loss.largest_probability_difference is not None
    assert 0 < loss.largest_probability_difference < 0.2
    assert "Spearman" in str(loss)
