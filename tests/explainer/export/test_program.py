"""Traced programs: they give what PyTorch gives, at any shape, or are refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from explainer.attributor import Attributor
from explainer.explained import PREDICTED, ExplainedModel, Target
from explainer.export.exportable import ExportableAttributor
from explainer.export.program import exported_program
from explainer.methods import SIG
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LORA_WARNINGS, fresh, hook_count
from tests.families import TASKS, TEXTS, explained

pytestmark = LORA_WARNINGS
# Tracing takes seconds: here one family of each reading direction, in test_onnx.py the others.
CASES = [
    ("bert", "lora", "classification"),
    ("llama", "separate", "classification"),
    ("bert", "side", "classification"),
]
CASES += [("llama", "side", "classification"), ("bert", "side", "multi_label"), ("bert", "side", "regression")]
Make = Callable[..., tuple[ExplainedModel, Amortized]]


def assert_same(module: Callable, model: ExplainedModel, method: Amortized, texts: list[str], label: int) -> None:
    """The program's padded batch against the method on each text alone."""
    encoded = model.encode(texts)
    inputs = ExportableAttributor(model, method).inputs(encoded, torch.full((len(texts),), label))
    logits, scores = module(**inputs)
    for i, text in enumerate(encoded):
        readout, [alone] = method.explain(model, [text], [Target.of([label])])
        n = len(text)
        assert torch.allclose(logits[i], readout.logits[0, 0], atol=1e-5)
        assert torch.allclose(scores[i, :n], alone.scores[0], atol=1e-5)
        assert not scores[i, n:].any()
        assert not scores[i, :n][~text.scorable].any()


@pytest.mark.parametrize(("family", "kind", "task"), CASES)
def test_a_program_gives_what_the_method_gives(family: str, kind: str, task: str, make: Make) -> None:
    model, method = make(family, kind, **TASKS[task])
    hooks = hook_count(model)
    module = exported_program(model, method, TEXTS).module()
    assert hook_count(model) == hooks
    last = len(model.labels) - 1
    for texts, label in ((TEXTS, PREDICTED), (TEXTS[3:], last), (["bad"], 0)):
        assert_same(module, model, method, texts, label)


def test_several_values_are_explained_one_by_one(make: Make) -> None:
    model, method = make("bert", "side", labels=2, problem_type="regression")
    module = exported_program(model, method, TEXTS).module()
    assert_same(module, model, method, TEXTS, 0)
    assert_same(module, model, method, TEXTS[1:], 1)


def test_the_model_s_full_length_and_one_token_are_shapes_too(make: Make) -> None:
    model, method = make("bert")
    module = exported_program(model, method, TEXTS).module()
    for text in (" ".join(["film"] * 38), ""):
        assert_same(module, model, method, [text], 1)


ALONE = """
import sys
for name in ("explainer", "transformers", "peft", "onnxruntime"):
    sys.modules[name] = None
import torch
module = torch.export.load(sys.argv[1]).module()
inputs, expected = torch.load(sys.argv[2])
logits, scores = module(**inputs)
assert torch.allclose(scores, expected, atol=1e-5), (scores, expected)
assert scores.any()
"""


def test_a_written_program_needs_torch_alone(make: Make, tmp_path: Path) -> None:
    model, method = make("distilbert")
    torch.export.save(exported_program(model, method, TEXTS), tmp_path / "model.pt2")
    exportable = ExportableAttributor(model, method)
    inputs = exportable.inputs(model.encode(TEXTS), torch.tensor([PREDICTED, 0, 1, 2]))
    with torch.no_grad():
        torch.save((inputs, exportable(**inputs)[1]), tmp_path / "expected.pt")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "model.pt2"), str(tmp_path / "expected.pt")]
    subprocess.run(command, check=True)


def test_an_attributor_writes_its_program(make: Make, tmp_path: Path) -> None:
    model, method = make("bert", "side")
    Attributor(model, method).to_exported_program(tmp_path / "new" / "model.pt2", TEXTS)
    assert_same(torch.export.load(tmp_path / "new" / "model.pt2").module(), model, method, TEXTS, PREDICTED)


def test_no_texts_are_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="`texts` is empty"):
        exported_program(*make(), [])


def test_what_cannot_be_traced_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="T5ForSequenceClassification with a lora explainer cannot be traced"):
        exported_program(*make("t5"), TEXTS)


def test_half_precision_is_refused(make: Make) -> None:
    model, method = make()
    model.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"in torch\.bfloat16, a program is made in torch\.float32"):
        exported_program(model, method, TEXTS)


def test_a_method_without_weights_has_no_program() -> None:
    with pytest.raises(ValueError, match="Method 'sig' has no weights"):
        Attributor(explained("bert"), SIG()).to_exported_program()


def test_a_model_that_was_traced_still_predicts_to_the_bit(make: Make) -> None:
    model, method = make()
    untouched = fresh("bert")
    exported_program(model, method, TEXTS)
    batch = untouched.collate(untouched.encode(TEXTS))
    assert torch.equal(model(batch).logits, untouched(batch).logits)
