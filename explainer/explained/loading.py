"""Loading a model from the hub, a folder or a PEFT adapter."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from explainer.explained.adapters import load_adapter
from explainer.explained.pretrained import (
    DeviceMap,
    check_complete,
    config_of,
    model_of,
    quiet,
    reading,
    tokenizer_of,
)
from explainer.explained.tasks import (
    TEXT_TASKS,
    AbstractTask,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
)
from explainer.explained.tasks.labels import named_labels
from explainer.explained.weights import GGUF, locate, read_json

ADAPTED = {"TOKEN_CLS": TokenClassification, "QUESTION_ANS": QuestionAnswering}
"""The tasks of PEFT's adapters, by their `task_type`; others are taken for sequence classifiers."""


def load_by_architecture(
    name: str, dtype: torch.dtype, device_map: DeviceMap = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer of a hub id, a model folder, or a PEFT adapter, where its architecture tells the task.

    An adapter is merged into its base.

    Raises:
        ValueError: when there is no such model, no task reads its head, a part of it is missing, or its files are
            broken.
    """
    source = _found(name)
    if (adapter := _adapter_of(source)) is not None:
        adapted: Any = ADAPTED.get(str(read_json(Path(adapter)).get("task_type")), TextClassification)
        return load_adapter(adapted.auto_model, source, adapter, dtype)
    config = config_of(source)
    kind = _task_of(config, name)
    model, missing = model_of(kind.auto_model, source, config, dtype, device_map)
    check_complete(name, missing)
    return model, tokenizer_of(source)


def load_for(
    task: AbstractTask, name: str, dtype: torch.dtype, device_map: DeviceMap = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a task, by its `auto_model`, and the tokenizer of a hub id, a model folder or a PEFT adapter.

    Raises:
        ValueError: when there is no such model, a part of it is missing, or its files are broken.
    """
    source = _found(name)
    if (adapter := _adapter_of(source)) is not None:
        return load_adapter(task.auto_model_of(read_json(Path(adapter))), source, adapter, dtype)
    config = config_of(source)
    _check_head(task, config, name)
    tokenizer = tokenizer_of(source)
    model, missing = model_of(task.auto_model_of(config.to_dict()), source, config, dtype, device_map)
    check_complete(name, missing)
    return model, tokenizer


def load_base(
    name: str, labels: list[str], dtype: torch.dtype, auto_model: Any = AutoModelForSequenceClassification
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """An encoder or decoder with a fresh head, to be fine-tuned.

    Args:
        labels: of the head; none where its choices are positions.
        auto_model: transformers' loader of a model with such a head.

    Returns:
        The model, its tokenizer, and the names of the modules that are fresh: the head, and a pooler that the base
        lacks. They have to be trained and saved whole.

    Raises:
        ValueError: when there is no such model, or its files are broken.
    """
    source = _found(name)
    config = config_of(source, **({"num_labels": len(labels), **named_labels(labels)} if labels else {}))
    with quiet():
        model, missing = model_of(auto_model, source, config, dtype)
    return model, tokenizer_of(source), sorted({_fresh_module(model, weight) for weight in missing})


def _fresh_module(model: PreTrainedModel, weight: str) -> str:
    """The module to train for a weight that the base lacks: a whole head, or the layer of the backbone."""
    first = weight.split(".")[0]
    return weight.rpartition(".")[0] if first == model.base_model_prefix else first


def _found(name: str) -> str:
    """Where the files of a model are."""
    _check_exists(name)
    return locate(name)


def _adapter_of(source: str) -> str | None:
    """The adapter_config.json of a PEFT adapter; None where the model is none."""
    if source.endswith(GGUF):
        return None
    with reading(source):
        return find_adapter_config_file(source)


def _check_exists(name: str) -> None:
    looks_local = name.startswith((".", "/", "~", "checkpoints/")) or name.count("/") > 1
    if looks_local and not os.path.exists(name):
        raise ValueError(f"`model` {name!r} is a path, and there is nothing at it.")
    known = ("config.json", "adapter_config.json", f"*{GGUF}")
    if os.path.isdir(name) and not any(any(Path(name).glob(pattern)) for pattern in known):
        raise ValueError(f"`model` {name!r} is a folder without a config.json, adapter_config.json or {GGUF} file.")


def _task_of(config: Any, name: str) -> Any:
    """The task of a model's architecture."""
    architectures = config.architectures or []
    for task in TEXT_TASKS:
        if any(architecture.endswith(task.head) for architecture in architectures):
            return task
    raise ValueError(
        f"`model` {name!r} is no sequence classifier (its architectures: {architectures}), and no model that tags "
        "words or answers questions, so its head would be random. Name a fine-tuned model, train one with "
        "configs/classifier.yaml, or pass the `task` that reads this model (a language model is asked by `--task "
        "prompted --prompt PROMPT.yaml`)."
    )


def _check_head(task: AbstractTask, config: Any, name: str) -> None:
    """Refuse a model of another head, whose weights may have the names and shapes of this task's."""
    architectures = config.architectures or []
    if task.head and not any(architecture.endswith(task.head) for architecture in architectures):
        raise ValueError(
            f"`model` {name!r} has the architectures {architectures}, and the task {task.name!r} reads models that end "
            f"in {task.head}: leave the task out, or name such a model."
        )


def own_state_dict(model: PreTrainedModel) -> dict[str, Tensor]:
    """The model's own weights under their own names, whatever adapters have been injected since."""
    return {
        re.sub(r"(\.base_layer)+\.", ".", key): tensor
        for key, tensor in model.state_dict().items()
        if ".lora_" not in key
    }
