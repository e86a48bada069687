"""Loading a model from the hub, a folder or a PEFT adapter, and reading its conventions: padding, length, baseline."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from explainer.explained.tasks import AbstractTask
from explainer.explained.weights import locate


def load_classifier(name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The classifier and tokenizer of a hub id, a model folder, or a PEFT adapter (merged into its base)."""
    with _found(name) as source:
        adapter = find_adapter_config_file(source)
        if adapter is not None:
            return _load_adapter(source, Path(adapter), dtype)
        config = AutoConfig.from_pretrained(source)
        _check_classifier(config, name)
        model = AutoModelForSequenceClassification.from_pretrained(source, config=config, dtype=dtype)
        return model, AutoTokenizer.from_pretrained(source)


def load_for(task: AbstractTask, name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a task, by its `auto_model`, and the tokenizer of a hub id or a model folder."""
    with _found(name) as source:
        return task.auto_model.from_pretrained(source, dtype=dtype), AutoTokenizer.from_pretrained(source)


@contextmanager
def _found(name: str) -> Iterator[str]:
    """Where the files of a model are; errors of reading them name the model."""
    _check_exists(name)
    try:
        yield locate(name)
    except OSError as error:
        raise ValueError(f"`model` {name!r} could not be loaded: {error}") from error


def load_base(name: str, labels: list[str], dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An encoder or decoder with a fresh classification head, to be fine-tuned."""
    _check_exists(name)
    source = locate(name)
    names = dict(enumerate(labels))
    config = AutoConfig.from_pretrained(
        source, num_labels=len(labels), id2label=names, label2id={label: i for i, label in names.items()}
    )
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(source, config=config, dtype=dtype)
    return model, AutoTokenizer.from_pretrained(source)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bar, load report and deprecation warnings while a model loads."""
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # https://github.com/huggingface/peft reads `is_gradient_checkpointing`, which transformers 5.23 renames.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            # PEFT rewrites patterns for mixture-of-experts models that were never given.
            warnings.filterwarnings(
                "ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning
            )
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _load_adapter(source: str, adapter: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    base_name = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
    base_source = locate(base_name)
    config_file = _optional_file(source, "config.json")
    if config_file is not None:
        config = AutoConfig.from_pretrained(config_file)
    else:
        config = AutoConfig.from_pretrained(base_source, num_labels=_adapter_labels(source))
    with quiet():  # transformers warns that the head is untrained; the adapter contains the trained one
        base = AutoModelForSequenceClassification.from_pretrained(base_source, config=config, dtype=dtype)
        model = PeftModel.from_pretrained(base, source).merge_and_unload()
    tokenizer = source if _optional_file(source, "tokenizer_config.json") is not None else base_source
    return model, AutoTokenizer.from_pretrained(tokenizer)


def _adapter_labels(source: str) -> int:
    """How many classes the head that a PEFT adapter carries has."""
    with safe_open(_optional_file(source, "adapter_model.safetensors") or "", framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 - not a dict
            if key.endswith(("classifier.weight", "score.weight", "out_proj.weight")) and "lora" not in key:
                return weights.get_slice(key).get_shape()[0]
    raise ValueError(
        f"`model` {source!r} is a PEFT adapter without a classification head and without a config.json: its classes "
        "are unknown. Train it with task_type SEQ_CLS, or save the model's config beside it."
    )


def _optional_file(source: str, file: str) -> str | None:
    return cached_file(
        source,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )


def _check_exists(name: str) -> None:
    looks_local = name.startswith((".", "/", "~", "checkpoints/")) or name.count("/") > 1
    if looks_local and not Path(name).exists():
        raise ValueError(f"`model` {name!r} is a path, and there is nothing at it.")
    if Path(name).is_dir() and not any((Path(name) / f).exists() for f in ("config.json", "adapter_config.json")):
        raise ValueError(f"`model` {name!r} is a folder without a config.json or adapter_config.json.")


def _check_classifier(config: Any, name: str) -> None:
    architectures = config.architectures or []
    if not any(architecture.endswith("ForSequenceClassification") for architecture in architectures):
        raise ValueError(
            f"`model` {name!r} is no sequence classifier (its architectures: {architectures}), so its classification "
            "head would be random. Name a fine-tuned classifier, train one with configs/classifier.yaml, or pass the "
            "`task` that reads this model."
        )


def own_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """The model's own weights under their own names, whatever adapters have been injected since."""
    return {
        re.sub(r"(\.base_layer)+\.", ".", key): tensor
        for key, tensor in model.state_dict().items()
        if ".lora_" not in key
    }
