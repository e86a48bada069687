"""Traced programs: they give what PyTorch gives, at any shape, or are refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from explainer.attributor import Attributor
from explainer.export.program import ExportableAttributor, check, example, inputs_of
from explainer.methods import SIG
from tests.explainer.tools import LORA_WARNINGS, fresh, hook_count
from tests.families import TEXTS, explained

pytestmark = LORA_WARNINGS
# Tracing takes seconds: here one family of each reading direction, in test_onnx.py the others.
CASES = [("bert", "lora"), ("llama", "separate"), ("bert", "side"), ("llama", "side")]
Make = Callable[..., Attributor]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_program_gives_what_the_attributor_gives(family: str, kind: str, make: Make) -> None:
    attributor = make(family, kind)
    hooks = hook_count(attributor.explained)
    module = attributor.to_exported_program(texts=TEXTS).module()
    assert hook_count(attributor.explained) == hooks
    for texts, target in ((TEXTS, -1), (TEXTS[3:], 2), (["bad"], 0)):
        encoded = attributor.explained.encode(texts)
        inputs = inputs_of(attributor.explained, encoded, torch.full((len(texts),), target))
        logits, scores = module(**inputs)
        expected = attributor(texts, target="predicted" if target == -1 else target)
        for i, explanation in enumerate(expected):
            n = len(explanation.scores)
            assert logits[i].softmax(0).tolist() == pytest.approx(explanation.probabilities, abs=1e-5)
            assert scores[i, :n].tolist() == pytest.approx(explanation.scores, abs=1e-5)
            assert not scores[i, n:].any()
            assert not scores[i, :n][~encoded[i].scorable].any()


def test_the_model_s_full_length_and_one_token_are_shapes_too(make: Make) -> None:
    attributor = make("bert")
    module = attributor.to_exported_program(texts=TEXTS).module()
    for text in (" ".join(["film"] * 38), ""):
        inputs = inputs_of(attributor.explained, attributor.explained.encode([text]), torch.tensor([1]))
        expected = attributor([text], target=1)[0].scores
        assert module(**inputs)[1][0].tolist() == pytest.approx(expected, abs=1e-5)


def test_what_stands_in_the_padding_is_not_read(make: Make) -> None:
    attributor = make("roberta")
    traced = ExportableAttributor(attributor.explained, attributor.method)
    inputs = example(attributor.explained, TEXTS)
    other = inputs | {"input_ids": inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)}
    assert not torch.equal(inputs["input_ids"], other["input_ids"])
    for mine, theirs in zip(traced(**inputs), traced(**other), strict=True):
        assert torch.equal(mine, theirs)


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
    attributor = make("distilbert")
    attributor.to_exported_program(tmp_path / "new" / "model.pt2", TEXTS)
    inputs = example(attributor.explained, TEXTS)
    assert "token_type_ids" not in inputs  # DistilBERT reads none
    torch.save((inputs, _scores(attributor, inputs)), tmp_path / "expected.pt")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "new" / "model.pt2"), str(tmp_path / "expected.pt")]
    subprocess.run(command, check=True)


def _scores(attributor: Attributor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return ExportableAttributor(attributor.explained, attributor.method)(**inputs)[1]


def test_a_program_that_computes_something_else_is_refused(make: Make) -> None:
    attributor = make()
    traced = ExportableAttributor(attributor.explained, attributor.method)

    def off(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = traced(**inputs)
        return logits, scores + 2e-4

    with pytest.raises(ValueError, match=r"The thing of 'tiny-bert' differs from PyTorch by 2\.0e-04, more than 1e-04"):
        check(off, attributor.explained, attributor.method, TEXTS, "The thing")


def test_nan_is_refused(make: Make) -> None:
    attributor = make()
    traced = ExportableAttributor(attributor.explained, attributor.method)

    def nan(inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        logits, scores = traced(**inputs)
        return logits, scores / 0.0

    with pytest.raises(ValueError, match=r"differs from PyTorch by inf"):
        check(nan, attributor.explained, attributor.method, TEXTS, "The thing")


def test_what_cannot_be_traced_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="T5ForSequenceClassification with a lora explainer cannot be traced"):
        make("t5").to_exported_program(texts=TEXTS)


def test_half_precision_is_refused(make: Make) -> None:
    attributor = make()
    attributor.explained.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"in torch\.bfloat16, a program is made in torch\.float32"):
        attributor.to_exported_program(texts=TEXTS)


def test_a_method_without_weights_has_no_program() -> None:
    with pytest.raises(ValueError, match="Method 'sig' has no weights"):
        Attributor(explained("bert"), SIG()).to_exported_program()


def test_a_model_that_was_traced_still_predicts_to_the_bit(make: Make) -> None:
    attributor, untouched = make(), fresh("bert")
    attributor.to_exported_program(texts=TEXTS)
    batch = untouched.collate(untouched.encode(TEXTS))
    assert torch.equal(attributor.explained(batch), untouched(batch))
