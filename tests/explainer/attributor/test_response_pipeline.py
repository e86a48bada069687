"""`transformers.pipeline("response-attribution")` gives the attributor's records, in the shapes of the pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from explainer.attributor import ResponseAttributor
from explainer.attributor.response_pipeline import ResponseAttributionPipeline
from tests.explainer.explained.test_responses import MESSAGES, model
from tests.explainer.tools import saved

ROW = {"prompt": "so it is", "response": " good fun", "span": "fun"}


def attributor() -> ResponseAttributor:
    return ResponseAttributor.of(model("qwen2"), "random")


def pipe(**options: Any) -> ResponseAttributionPipeline:
    return pipeline("response-attribution", model=attributor(), device="cpu", **options)


def test_one_prompt_gives_a_record_and_many_give_many() -> None:
    settings: dict[str, Any] = {"sources": "word", "trust": True, "generate": {"max_new_tokens": 3}}
    made = pipe(**settings)
    for prompt in (MESSAGES, "the film was", ROW):
        assert made(prompt) == attributor()(prompt, **settings).record()
    prompts = [MESSAGES, "the film was", ROW]
    expected = [made(prompt) for prompt in prompts]
    assert made(prompts) == expected
    assert [record["span"] for record in made(iter(prompts))] == [record["span"] for record in expected]
    batched = made(prompts, batch_size=2)
    assert [record["span"] for record in batched] == [record["span"] for record in expected]
    assert made([]) == []


def test_a_call_has_options_of_its_own() -> None:
    record = pipe()("so it is", response=" good fun", token=1, foil=" bad", score="log_prob")
    assert record["contract"]["foil"] == " bad"
    assert record["target_tokens"] == ["Ġfun"]
    with pytest.raises(TypeError, match="has no option units"):
        pipe()("so it is", units="word")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_language_model_is_loaded_by_its_folder(tmp_path: Path) -> None:
    folder = saved(model("qwen2"), tmp_path)
    made = pipeline("response-attribution", model=folder, device="cpu", dtype=torch.bfloat16)
    assert made.attributor.method.name == "attn_lrp"
    assert made.attributor.explained.model.dtype == torch.bfloat16
    assert made(ROW)["response"] == " good fun"


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="`method` is for models; this attributor explains by 'random'"):
        pipe(method="sig")
    with pytest.raises(ValueError, match="`tokenizer` must come with a model that is loaded already"):
        ResponseAttributionPipeline(model("qwen2").model)
