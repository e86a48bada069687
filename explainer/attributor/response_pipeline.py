"""`transformers.pipeline("response-attribution", model=...)`: chats in, responses with the scores of their sources out.

The pipeline is registered when `explainer` is imported. `model` is a language model (hub id, folder, or loaded with its
`tokenizer`) together with the name of a `method` (`attn_lrp` by default), or a `ResponseAttributor`, or the folder or
hub id of an exported explainer of responses:

    pipe = pipeline("response-attribution", model="HuggingFaceTB/SmolLM2-135M-Instruct", method="attn_lrp")
    pipe([{"role": "user", "content": "Ben has a red car. What has Ben?"}], sources="sentence")
    pipe(["The film was", "So it is"], batch_size=2, generate={"max_new_tokens": 8})
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers.pipelines import PIPELINE_REGISTRY

from explainer.attributor.pipeline import (
    AbstractAttributorPipeline,
    AmortexConfig,
    explained_of,
    local_folder,
    precision_of,
)
from explainer.attributor.response_inputs import ResponseInput, prompt_kind
from explainer.attributor.responses import ResponseAttributor, ResponseOptions
from explainer.explained import ExplainedModel, Response
from explainer.explained.pretrained import config_of
from explainer.methods import AbstractMethod

TASK = "response-attribution"
ASKED = ("response", "span", "token", "foil")
FORWARD = ("trust", "sources")
OPTIONS = (*FORWARD, "score", "generate")


class ResponsePipelineModel:
    """The loader that `pipeline` calls with a name: an exported explainer's, or that of a language model."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: torch.dtype | str = "auto", revision: str | None = None, **options: Any
    ) -> ResponseAttributor | ExplainedModel:
        folder, precision = local_folder(name, revision, options), precision_of(dtype)
        if config_of(str(folder)).model_type == AmortexConfig.model_type:
            return ResponseAttributor.from_pretrained(folder, dtype=precision)
        return ExplainedModel.from_pretrained(folder, dtype=precision, task=Response())


class ResponseAttributionPipeline(AbstractAttributorPipeline):
    """Prompts in; for each prompt the record of its explanation out (`ResponseExplanation.record`).

    A prompt is given as to a `ResponseAttributor`: a string, messages, or a mapping with `prompt` or `messages` and
    optionally `response`, `span`, `token`, `foil`. One prompt gives one record, a list a list; a generator or data set
    is read as its results are taken.

    Args:
        model: a `ResponseAttributor`, or a language model.
        tokenizer: of a model that is given loaded.
        method: name or settings of an attribution method; `attn_lrp` by default.
        options: `response`, `span`, `token`, `foil`, `score`, `sources`, `trust` and `generate` of an attributor's
            call. A call of the pipeline takes the same options. `batch_size` responses are explained together.
    """

    @staticmethod
    def attributor_of(model: Any, tokenizer: Any, method: str | AbstractMethod | None) -> ResponseAttributor:
        if isinstance(model, ResponseAttributor):
            if method is not None:
                raise ValueError(f"`method` is for models; this attributor explains by {model.method.name!r}.")
            return model
        return ResponseAttributor.of(
            explained_of(model, tokenizer, Response()), "attn_lrp" if method is None else method
        )

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        kind = prompt_kind(inputs)
        if kind == "one":
            return super().__call__([_row(inputs)], *arguments, **options)[0]
        if kind == "list":
            return super().__call__([_row(one) for one in inputs], *arguments, **options) if len(inputs) else []
        rows = inputs if isinstance(inputs, Dataset) else (_row(one) for one in inputs)
        return super().__call__(rows, *arguments, **options)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := sorted(set(options) - {*ASKED, *OPTIONS}):
            raise TypeError(f"The pipeline {TASK!r} has no option {', '.join(unknown)}.")
        forward: dict[str, Any] = {name: options[name] for name in FORWARD if name in options}
        return options, forward, {}

    def preprocess(self, input_: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        asked = {name: options[name] for name in ASKED if name in options}
        settings = ResponseOptions(**{name: options[name] for name in OPTIONS if name in options})
        return {"asked": self.attributor.ask(ResponseInput.of(input_, **asked), settings)}

    def _forward(self, input_tensors: dict[str, Any], **options: Any) -> Any:
        asked = input_tensors["asked"]  # one, or those of a batch
        single = not isinstance(asked, list)
        trust, level = options.get("trust", False), options.get("sources", "token")
        explanations = self.attributor.explain([asked] if single else asked, trust=trust, level=level)
        return {"explanation": explanations[0] if single else explanations}

    def postprocess(self, model_outputs: dict[str, Any]) -> Mapping[str, Any]:  # type: ignore[override]
        return model_outputs["explanation"].record()


def _row(prompt: Any) -> Any:
    """A prompt as a mapping, so that transformers does not take one for a chat, and all others with it."""
    if isinstance(prompt, str):
        return {"prompt": prompt}
    return {"messages": prompt} if isinstance(prompt, list | tuple) else prompt


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=ResponseAttributionPipeline, pt_model=ResponsePipelineModel, type="text"
)
