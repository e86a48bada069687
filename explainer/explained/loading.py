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

from explainer.explained.passes import counts_positions_from_padding
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
    base_name = json.loads(adapter.read_text())["base_model_name_or_path"]
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


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a padding token one, and the model's configuration the same, for its pooling."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if model.config.get_text_config().pad_token_id != tokenizer.pad_token_id:
        raise ValueError(
            f"`tokenizer` pads with id {tokenizer.pad_token_id}, the model takes "
            f"{model.config.get_text_config().pad_token_id} for padding. They do not belong together."
        )


def max_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest input in tokens, specials included; None when neither model nor tokenizer has a limit."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and counts_positions_from_padding(model):
        positions -= tokenizer.pad_token_id + 1  # RoBERTa counts positions from the padding index
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit is not None and limit < 10**6]
    return min(limits) if limits else None


def baseline_token_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, token: str | None) -> int:
    """The id of the token that stands for an absent one.

    Raises:
        ValueError: when `token` is no single token, or is the padding of a decoder classifier, whose pooled
            position would move with it.
    """
    # Only models that pool at the last token that is not padding are sensitive to PAD inside the text.
    pools_last = hasattr(model, "score") and not model.config.is_encoder_decoder
    pad = tokenizer.pad_token_id
    if token is not None:
        found = tokenizer.convert_tokens_to_ids(token)
        if not isinstance(found, int) or (found == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise ValueError(f"`baseline_token` {token!r} is not one token of this tokenizer's vocabulary.")
        if pools_last and found == pad:
            raise ValueError(
                f"`baseline_token` {token!r} is the padding token: a decoder classifier pools at the last token "
                "that is not padding, so it would move. Choose another."
            )
        return found
    candidates = [tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]
    space = tokenizer.encode(" ", add_special_tokens=False)
    for candidate in [*candidates, *(space if len(space) == 1 else [])]:
        if candidate is not None and not (pools_last and candidate == pad):
            return candidate
    raise ValueError("This tokenizer has no token to stand for 'absent'. Name one by `baseline_token`.")


def own_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """The model's own weights under their own names, whatever adapters have been injected since."""
    return {
        re.sub(r"(\.base_layer)+\.", ".", key): tensor
        for key, tensor in model.state_dict().items()
        if ".lora_" not in key
    }
