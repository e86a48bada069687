"""Small models from nothing: they read what their tasks read, and an export is the trained model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.data.planted_words import planted_instructions, planted_pairs
from explainer.explained import ExplainedModel, PromptedClassification, Response, explain_response
from lightning_modules.data.text import TextExamples
from lightning_modules.fresh import FreshTraining

T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 2,
    "max_position_embeddings": 128,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
LABELS = {"red": " red", "blue": " blue"}
TEXTS = planted_instructions(3, 0)["text"][:]


@pytest.mark.parametrize(("architecture", "template"), [(T5, "{text}"), (MIXTRAL, "{text} Answer:")])
def test_the_exported_model_answers_as_the_trained_one(
    architecture: dict[str, Any], template: str, tmp_path: Path
) -> None:
    prompt = {"template": template, "labels": LABELS}
    torch.manual_seed(0)
    module = FreshTraining(architecture, prompt=prompt).eval()
    module.export(tmp_path)
    asked = ExplainedModel.from_pretrained(tmp_path, task=PromptedClassification.of(prompt))
    examples = TextExamples([0, 1, 2], TEXTS, [None] * 3, ["red"] * 3)
    with torch.no_grad():
        logits = module(examples)
    words = asked.tokenizer.convert_tokens_to_ids(["red", "blue"])
    found = asked.predict([text.tokens for text in asked.encode(TEXTS)]).logits[:, 0]
    torch.testing.assert_close(found, logits[:, words])
    assert "<unk>" not in asked.tokenizer.convert_ids_to_tokens(asked.encode(TEXTS)[0].tokens.input_ids.tolist())
    answers = ExplainedModel.from_pretrained(tmp_path, task=Response())
    one = explain_response(answers, template.replace("{text}", TEXTS[0]), " red")
    torch.testing.assert_close(answers.evaluate([one.text.tokens], one.target).value[0], logits[0, words[0]])


def test_the_exported_classifier_of_pairs_answers_as_the_trained_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = FreshTraining(BERT, labels=["contradiction", "entailment"]).eval()
    module.export(tmp_path)
    pairs = planted_pairs(3, 0)
    texts, others = pairs["text"][:], pairs["text_pair"][:]
    with torch.no_grad():
        logits = module(TextExamples([0, 1, 2], texts, others, pairs["label"][:]))
    model = ExplainedModel.from_pretrained(tmp_path)
    assert model.labels == ["contradiction", "entailment"]
    found = model.predict([text.tokens for text in model.encode(texts, others)]).logits[:, 0]
    torch.testing.assert_close(found, logits)
    assert model.baseline_token_id == model.tokenizer.mask_token_id


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": {"model_type": "t7"}}, "`architecture` must name a `model_type` of transformers, got 't7'"),
        ({"architecture": {}}, "`architecture` must name a `model_type` of transformers, got None"),
        ({"prompt": {"template": "{text} {text_pair}", "labels": LABELS}}, "with `{text}` alone"),
        ({"labels": ["a", "b"]}, "Give `labels` .* or a `prompt` .* and not both"),
        ({"prompt": None}, "Give `labels` .* or a `prompt` .* and not both"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    given = {"architecture": T5, "prompt": {"template": "{text}", "labels": LABELS}} | copy.deepcopy(changes)
    with pytest.raises(ValueError, match=message):
        FreshTraining(**given)


def test_a_label_that_the_prompt_has_not_is_refused() -> None:
    module = FreshTraining(T5, prompt={"template": "{text}", "labels": LABELS})
    with pytest.raises(ValueError, match="The labels must be those of the data, which has 'green'"):
        module.validation_step(TextExamples([0], TEXTS[:1], [None], ["green"]), 0)
