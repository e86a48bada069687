"""`transformers.pipeline("token-attribution", model=...)`: attributions as the pipelines give named entities.

Registered when `explainer` is imported. MODEL is the folder or hub id of an exported attributor, or an `Attributor`, or
a classifier (hub id, folder, or loaded with its `tokenizer`) and the name of a `method`:

    pipe = pipeline("token-attribution", model="checkpoints/demo-attributor")
    pipe("a witty film")  # [{"word": "a", "score": ..., "start": 0, "end": 1}, ...]
    pipe(texts, batch_size=32, target="positive", aggregation_strategy="none")
    pipeline("token-attribution", model="checkpoints/demo-classifier", method="attn_lrp")
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import GeneratorType
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch.utils.data import Dataset
from transformers import AutoConfig, Pipeline, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines import PIPELINE_REGISTRY

from explainer.attributor import Attributor
from explainer.attributor.inputs import amount, encode, rows
from explainer.attributor.locking import alone_with
from explainer.attributor.trust import Fallback
from explainer.explained import EncodedText, ExplainedModel
from explainer.explainers.config import ExportConfig
from explainer.explanation import Explanation, check_aggregation
from explainer.methods import AbstractMethod
from explainer.methods import method as method_named

TASK = "token-attribution"
FORWARD = ("target", "targets", "trust", "fallback")


class AmortexConfig(PreTrainedConfig):
    """config.json of an exported attributor, as far as transformers has to read it."""

    model_type = ExportConfig.model_type

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class PipelineModel:
    """What `pipeline` loads by name: an exported attributor, or a classifier whose method is still to be named."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: torch.dtype | str = "auto", revision: str | None = None, **options: Any
    ) -> Attributor | ExplainedModel:
        hub = {key: options[key] for key in ("token", "local_files_only") if key in options}
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(name, revision=revision, **hub))
        precision = dtype if isinstance(dtype, torch.dtype) else torch.float32
        if AutoConfig.from_pretrained(folder).model_type == AmortexConfig.model_type:
            return Attributor.from_pretrained(folder, dtype=precision)
        return ExplainedModel.from_pretrained(folder, dtype=precision)


class TokenAttributionPipeline(Pipeline):
    """Texts in; a list of `word, score, start, end` for each out, or {label: list} where several classes are asked.

    One text gives one result, a list a list; a generator or data set is read as its results are taken. A text is what
    it is to an `Attributor`: a string, a list of words with `is_split_into_words=True`, or a mapping with `text` and
    `text_pair` (whose words have a `segment`, 0 or 1).

    Args:
        model: an `Attributor`, or a classifier, which needs `method`.
        tokenizer: of a classifier that is given loaded.
        method: name or settings of an attribution method.
        options: `aggregation_strategy` (`sum` by default, `first`, `average`, `max`, `none`; of `Explanation.words`),
            `is_split_into_words`, and `target`, `targets`, `trust`, `fallback`, `min_faithfulness` of an attributor's
            call; also to be given by the call. `batch_size` texts go through the model together.
    """

    _load_tokenizer: Any = False
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(
        self,
        model: Attributor | ExplainedModel | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        method: str | AbstractMethod | None = None,
        **options: Any,
    ) -> None:
        self.attributor = _attributor(model, tokenizer, method)
        explained: Any = self.attributor.explained
        super().__init__(model=explained.model, tokenizer=explained.tokenizer, **options)
        self.attributor.to(self.device)

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        split = options.get("is_split_into_words", self._preprocess_params.get("is_split_into_words", False))
        known = isinstance(inputs, str | list | Mapping | GeneratorType | Dataset)
        if isinstance(inputs, list) and len(inputs) == 0:
            return []
        if split and amount(inputs, split) == "one" and not isinstance(inputs, Mapping):
            return super().__call__([inputs], *arguments, **options)[0]
        return super().__call__(inputs if known else _generator(inputs), *arguments, **options)

    def _sanitize_parameters(
        self,
        is_split_into_words: bool | None = None,
        aggregation_strategy: str | None = None,
        min_faithfulness: float | int | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if aggregation_strategy is not None:
            check_aggregation(aggregation_strategy)
        if unknown := sorted(set(options) - set(FORWARD)):
            raise TypeError(f"The pipeline {TASK!r} has no option {', '.join(unknown)}.")
        if "fallback" in options or min_faithfulness is not None:
            options["fallback"] = Fallback.of(options.get("fallback"), min_faithfulness)
        before = {} if is_split_into_words is None else {"is_split_into_words": is_split_into_words}
        after = {} if aggregation_strategy is None else {"aggregation": aggregation_strategy}
        return before, options, after

    def preprocess(self, input_: Any, is_split_into_words: bool = False) -> dict[str, Any]:  # type: ignore[override]
        with alone_with(self.attributor.explained):
            return {"text": encode(self.attributor.explained, list(rows([input_])), is_split_into_words)[0]}

    def _forward(self, input_tensors: dict[str, Any], **options: Any) -> Any:
        text = input_tensors["text"]  # one, or those of a batch
        found = self.attributor.explain([text] if isinstance(text, EncodedText) else text, **options)
        return {"explanation": found[0] if isinstance(text, EncodedText) else found}

    def postprocess(self, model_outputs: Any, aggregation: Any = "sum") -> Any:  # type: ignore[override]
        found = model_outputs["explanation"]
        if isinstance(found, Explanation):
            return _records(found, aggregation)
        return {label: _records(explanation, aggregation) for label, explanation in found.items()}


def _records(explanation: Explanation, aggregation: Any) -> list[dict[str, Any]]:
    names = ("word", "score", "start", "end", *(["segment"] if explanation.text_pair is not None else []))
    return [{name: getattr(word, name) for name in names} for word in explanation.words(aggregation)]


def _attributor(model: Any, tokenizer: Any, method: str | AbstractMethod | None) -> Attributor:
    if isinstance(model, Attributor):
        if method is not None:
            raise ValueError(f"`method` is for classifiers; this attributor explains by {model.method.name!r}.")
        return model
    if method is None:
        raise ValueError(f"`method` must name how this classifier is explained: pipeline({TASK!r}, ..., method=...).")
    if not isinstance(model, ExplainedModel):
        if tokenizer is None:
            raise ValueError("`tokenizer` must come with a model that is loaded already.")
        model = ExplainedModel(model, tokenizer)
    return Attributor(model, method_named(method) if isinstance(method, str) else method)


def _generator(inputs: Iterable[Any]) -> Iterable[Any]:
    yield from inputs


AutoConfig.register(AmortexConfig.model_type, AmortexConfig)
PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=TokenAttributionPipeline, pt_model=PipelineModel, type="text")
