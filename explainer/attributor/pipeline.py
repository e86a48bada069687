"""`transformers.pipeline("token-attribution", model=...)`: attributions in the form of transformers' named entities.

The pipeline is registered when `explainer` is imported. `model` is the folder or hub id of an exported attributor, or
an `Attributor`, or a classifier (hub id, folder, or loaded with its `tokenizer`) together with the name of a `method`:

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
from transformers import AutoConfig, Pipeline, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.pipelines import PIPELINE_REGISTRY

from explainer.attributor import Attributor, CallOptions, Fallback
from explainer.attributor.inputs import encode, input_kind, read
from explainer.attributor.locking import model_lock
from explainer.attributor.units import with_units
from explainer.explained import AbstractTask, EncodedText, ExplainedModel
from explainer.explained.pretrained import config_of
from explainer.explainers.config import ExportConfig
from explainer.explanation import Explanation
from explainer.methods import AbstractMethod
from explainer.scored_text import Aggregation, Units, check_aggregation

TASK = "token-attribution"
FORWARD = ("target", "targets", "foil", "score", "trust", "fallback")


class AmortexConfig(PreTrainedConfig):
    """The part of an exported attributor's config.json that transformers reads."""

    model_type = ExportConfig.model_type

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class PipelineModel:
    """The loader that `pipeline` calls with a name: an exported attributor's, or that of a classifier."""

    @classmethod
    def from_pretrained(
        cls, name: str, *, dtype: torch.dtype | str = "auto", revision: str | None = None, **options: Any
    ) -> Attributor | ExplainedModel:
        folder, precision = local_folder(name, revision, options), precision_of(dtype)
        if config_of(str(folder)).model_type == AmortexConfig.model_type:
            return Attributor.from_pretrained(folder, dtype=precision)
        return ExplainedModel.from_pretrained(folder, dtype=precision)


def local_folder(name: str, revision: str | None, options: Mapping[str, Any]) -> Path:
    """A folder, or the snapshot of a hub id."""
    hub = {key: options[key] for key in ("token", "local_files_only") if key in options}
    return Path(name) if Path(name).is_dir() else Path(snapshot_download(name, revision=revision, **hub))


def precision_of(dtype: torch.dtype | str) -> torch.dtype:
    """The dtype of the weights; float32 for "auto", since gradients want it."""
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


class AbstractAttributorPipeline(Pipeline):
    """A pipeline whose work an attributor does.

    Args:
        model: an attributor, or a model to explain.
        tokenizer: of a model that is given loaded.
        method: name or settings of an attribution method.
        options: of the pipeline, and of an attributor's call.
    """

    _load_tokenizer: Any = False
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase | None = None,
        method: str | AbstractMethod | None = None,
        **options: Any,
    ) -> None:
        self.attributor = self.attributor_of(model, tokenizer, method)
        explained: Any = self.attributor.explained
        super().__init__(model=explained.model, tokenizer=explained.tokenizer, **options)
        self.attributor.to(self.device)

    @staticmethod
    def attributor_of(model: Any, tokenizer: Any, method: str | AbstractMethod | None) -> Any:
        """The attributor of what the pipeline was given.

        Raises:
            ValueError: when a method is missing or one too many, or a loaded model comes without its tokenizer.
        """
        raise NotImplementedError


def explained_of(model: Any, tokenizer: Any, task: AbstractTask | None = None) -> ExplainedModel:
    """The model to explain, which transformers may have loaded.

    Raises:
        ValueError: when a loaded model comes without its tokenizer.
    """
    if isinstance(model, ExplainedModel):
        return model
    if tokenizer is None:
        raise ValueError("`tokenizer` must come with a model that is loaded already.")
    return ExplainedModel(model, tokenizer, task=task)


class TokenAttributionPipeline(AbstractAttributorPipeline):
    """Texts in; for each text a list of `word, score, start, end` out, or {label: list} where `targets` are given.

    One text gives one result, a list a list; a generator or data set is read as its results are taken. A text is given
    as to an `Attributor`: a string, a list of words with `is_split_into_words=True`, or a mapping with `text` and
    `text_pair` (whose words have a `segment`, 0 or 1).

    Args:
        model: an `Attributor`, or a classifier, which needs `method`.
        tokenizer: of a classifier that is given loaded.
        method: name or settings of an attribution method.
        options: `aggregation_strategy` (`sum` by default, `first`, `average`, `max`, `none`; of `Explanation.words`;
            with `units` the default is one entry per unit), and `target`, `targets`, `foil`, `score`, `units`,
            `is_split_into_words`, `trust`, `fallback` and `min_faithfulness` of an attributor's call. A call of the
            pipeline takes the same options. `batch_size` texts go through the model together.
    """

    @staticmethod
    def attributor_of(model: Any, tokenizer: Any, method: str | AbstractMethod | None) -> Attributor:
        if isinstance(model, Attributor):
            if method is not None:
                raise ValueError(f"`method` is for classifiers; this attributor explains by {model.method.name!r}.")
            return model
        if method is None:
            raise ValueError(
                f"`method` must name how this classifier is explained: pipeline({TASK!r}, ..., method=...)."
            )
        return Attributor.of(explained_of(model, tokenizer), method)

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        split = options.get("is_split_into_words", self._preprocess_params.get("is_split_into_words", False))
        if isinstance(inputs, list) and len(inputs) == 0:
            return []
        if split and input_kind(inputs, split) == "one" and not isinstance(inputs, Mapping):
            return super().__call__([inputs], *arguments, **options)[0]
        # transformers takes other iterables, such as a data set's column, for one text.
        many = isinstance(inputs, str | list | Mapping | GeneratorType | Dataset)
        return super().__call__(inputs if many else _generator(inputs), *arguments, **options)

    def _sanitize_parameters(
        self,
        is_split_into_words: bool | None = None,
        units: Units | None = None,
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
        before = {"is_split_into_words": is_split_into_words, "units": units}
        after = {"aggregation": aggregation_strategy}
        given = ({name: value for name, value in part.items() if value is not None} for part in (before, after))
        return next(given), options, next(given)

    def preprocess(  # type: ignore[override]
        self, input_: Any, is_split_into_words: bool = False, units: Units | None = None
    ) -> dict[str, Any]:
        explained = self.attributor.explained
        with model_lock(explained):
            encoded = encode(explained, list(read([input_]).items), is_split_into_words)
            return {"text": with_units(encoded, units)[0]}

    def _forward(self, input_tensors: dict[str, Any], **options: Any) -> Any:
        text = input_tensors["text"]  # one, or those of a batch
        single = isinstance(text, EncodedText)
        explanations = self.attributor.explain([text] if single else text, CallOptions(**options))
        return {"explanation": explanations[0] if single else explanations}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], aggregation: Aggregation | None = None
    ) -> Any:
        explanation = model_outputs["explanation"]
        if isinstance(explanation, Explanation):
            return _records(explanation, aggregation)
        return {label: _records(one, aggregation) for label, one in explanation.items()}


def _records(explanation: Explanation, aggregation: Aggregation | None) -> list[dict[str, Any]]:
    in_units = aggregation is None and explanation.units_of_tokens is not None
    words = explanation.units() if in_units else explanation.words(aggregation or "sum")
    names = ("word", "score", "start", "end", *(["segment"] if explanation.text_pair is not None else []))
    return [{name: getattr(word, name) for name in names} for word in words]


def _generator(inputs: Iterable[Any]) -> Iterable[Any]:
    yield from inputs


AutoConfig.register(AmortexConfig.model_type, AmortexConfig)
PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=TokenAttributionPipeline, pt_model=PipelineModel, type="text")
