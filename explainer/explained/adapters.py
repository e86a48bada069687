"""A PEFT adapter merged into its base. Its configuration is compared with its weights before anything is built.

Added tokens come in five ways. The whole embedding may be in the adapter's file (by `modules_to_save`, by
`save_embedding_layers`, or below a LoRA), a few of its rows may be (`trainable_token_indices`), or the base may have
been resized and saved. The base gets as many rows as there are; a tokenizer with more tokens is refused.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.peft_utils import find_adapter_config_file

from explainer.explained.pretrained import check_complete, config_of, model_of, optional_file, quiet, tokenizer_of
from explainer.explained.weights import (
    GGUF,
    Shapes,
    check_finite,
    file_sha256,
    json_sha256,
    load_tensors,
    locate,
    read_json,
    shapes_of,
)
from explainer.extras import OptionalModule

peft = OptionalModule("peft")

CONFIG, WEIGHTS, DIGEST = "adapter_config.json", "adapter_model.safetensors", "adapter_sha256"
_PREFIX = "base_model.model."
_EDITED = (DIGEST, "base_model_name_or_path", "id2label", "label2id")
_WRAPPERS = re.compile(r"\.(base_layer|original_module|modules_to_save|token_adapter)(?=\.)")
_HEADS = ("classifier.weight", "score.weight", "out_proj.weight")
_PLAIN = re.compile(r"[\w.\-]+")
"""Names of modules; PEFT takes these for regular expressions, and a stranger's expression may never end."""


def load_adapter(
    auto_model: Any, source: str, file: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model with the adapter merged, and the tokenizer of the adapter, else of the base.

    Args:
        auto_model: transformers' loader of the base.
        source: hub id or folder of the adapter.
        file: its adapter_config.json.

    Raises:
        ValueError: when files are missing or broken, contradict each other, or need more than merging.
    """
    settings = read_json(Path(file))
    weights_file = _weights_file(source)
    shapes = shapes_of(weights_file)
    _check_settings(source, settings, shapes)
    own = _own_config(source, settings, weights_file)
    base_source = _base_of(source, settings)
    weights = _without_copies(load_tensors(weights_file))
    with quiet():  # transformers warns that the head is untrained; the adapter contains the trained one
        config = _config(auto_model, source, base_source, own, shapes)
        base, missing = model_of(auto_model, base_source, config, dtype)
        own_tokenizer = optional_file(source, "tokenizer_config.json") is not None
        tokenizer = tokenizer_of(source if own_tokenizer else base_source)
        _resize(source, base, tokenizer, weights, settings)
        model = _merged(source, base, settings, weights)
    check_complete(source, missing - {_in_base(name) for name in weights})
    check_finite(model.named_parameters(), source)
    return model, tokenizer


def _weights_file(source: str) -> Path:
    file = optional_file(source, WEIGHTS)
    if file is not None:
        return file
    raise ValueError(
        f"`model` {source!r} is a PEFT adapter without {WEIGHTS}. Weights in adapter_model.bin are a pickle, which may "
        "hold code, and are not read: load them where they were trained, and save them again by `save_pretrained`."
    )


def _check_settings(source: str, settings: Mapping[str, Any], shapes: Shapes) -> None:
    """Refuse what cannot be merged, what would run or never end, and ranks that the weights do not have."""
    about = f"`model` {source!r} is a PEFT adapter"
    kind = settings.get("peft_type")
    if not isinstance(kind, str) or kind not in peft.PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"{about} of an unknown kind: its `peft_type` is {kind!r}.")
    if issubclass(peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)], peft.PromptLearningConfig) or kind in (
        "ADAPTION_PROMPT",
        "XLORA",
    ):
        raise ValueError(
            f"{about} of kind {kind}, which adds to the input or mixes other adapters and cannot be merged into the "
            "weights. Adapters that can be are LoRA and its like."
        )
    for name in ("megatron_config", "layer_replication"):
        if settings.get(name) is not None:
            raise ValueError(f"{about} whose adapter_config.json has `{name}`, which cannot be merged: leave it out.")
    for name in ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_pattern", "feedforward_modules"):
        patterns = [settings[name]] if isinstance(settings.get(name), str) else settings.get(name) or []
        if kind != "ADALORA" and (strange := [one for one in patterns if not _is_plain(one)]):
            raise ValueError(
                f"{about} whose `{name}` holds {strange[0]!r}: only names of modules are read, since a regular "
                "expression may never end."
            )
    ranks = [shape[0] for name, shape in shapes.items() if ".lora_A." in name or name.endswith("lora_embedding_A")]
    largest = max(ranks or [max(shape, default=0) for shape in shapes.values()], default=0)
    pattern = settings.get("rank_pattern") if kind == "LORA" else None
    wanted = [settings.get("init_r" if kind == "ADALORA" else "r"), *(pattern or {}).values()]
    for rank in wanted:
        if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank > largest):
            raise ValueError(f"{about} whose rank is {rank!r} in adapter_config.json, and {largest} in its weights.")


def _is_plain(name: Any) -> bool:
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None


def _base_of(source: str, settings: Mapping[str, Any]) -> str:
    """Where the base is: in the adapter's own folder, in the working directory, or on the hub."""
    name = settings.get("base_model_name_or_path")
    about = f"`model` {source!r} is a PEFT adapter"
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{about} that names no base: write the base's hub id or folder into adapter_config.json, as "
            "`base_model_name_or_path`."
        )
    beside = Path(source) / name
    found = locate(str(beside) if beside.exists() else name)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    whole = found.endswith(GGUF) and Path(found).is_file()
    if looks_local and not (whole or Path(found).is_dir()):
        raise ValueError(
            f"{about} of the base {name!r}, and there is no such folder, neither from the adapter's own folder nor "
            "from the working directory."
        )
    if not whole and find_adapter_config_file(found) is not None:
        raise ValueError(f"{about} of the base {name!r}, which is an adapter itself: merge that one first.")
    return found


def digest_of_adapter(config: Mapping[str, Any], settings: Mapping[str, Any], weights_file: Path) -> str:
    """The sha256 of an adapter's weights and settings, but for the names of its base and labels, which may be edited.

    Args:
        config: of the merged model, config.json.
        settings: of the adapter, adapter_config.json.
    """
    kept = [{name: value for name, value in part.items() if name not in _EDITED} for part in (config, settings)]
    return json_sha256([*kept, file_sha256(weights_file)])


def _own_config(source: str, settings: Mapping[str, Any], weights_file: Path) -> PreTrainedConfig | None:
    """The config.json of the adapter's folder; None where it has none.

    Raises:
        ValueError: when it holds a digest, as `explainer export` writes it, and the adapter has another.
    """
    file = optional_file(source, "config.json")
    if file is None:
        return None
    values = read_json(file)
    if DIGEST in values and values[DIGEST] != digest_of_adapter(values, settings, weights_file):
        raise ValueError(f"`model` {source!r} is broken: its adapter is not the one that was exported.")
    config = config_of(str(file))
    if DIGEST in values:
        delattr(config, DIGEST)  # the merged model has no adapter any more
    return config


def _config(
    auto_model: Any, source: str, base_source: str, own: PreTrainedConfig | None, shapes: Shapes
) -> PreTrainedConfig:
    """The adapter's own configuration where it has one, of a base with its own number of tokens."""
    base = config_of(base_source)
    if own is not None:
        if type(own) is not type(base):
            raise ValueError(
                f"`model` {source!r} has a config.json of {own.model_type}, its base is {base.model_type}."
            )
        own.get_text_config().vocab_size = base.get_text_config().vocab_size
        return own
    if not auto_model.__name__.endswith(("ForSequenceClassification", "ForTokenClassification")):
        return base
    return config_of(base_source, num_labels=_labels(source, shapes))


def _labels(source: str, shapes: Shapes) -> int:
    """How many classes the head that a PEFT adapter carries has."""
    for name, shape in shapes.items():
        if name.endswith(_HEADS) and "lora" not in name and len(shape) == 2:
            return shape[0]
    raise ValueError(
        f"`model` {source!r} is a PEFT adapter without a classification head and without a config.json: its classes "
        "are unknown. Train it with task_type SEQ_CLS or TOKEN_CLS, or save the model's config beside it."
    )


def _without_copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the second and third copies that PEFT saves of an embedding in `modules_to_save`."""
    copy = re.compile(r"\.(original_module|modules_to_save)(?=\.[^.]+$)")
    return {
        name: weight for name, weight in weights.items() if not (copy.search(name) and copy.sub("", name) in weights)
    }


def _in_base(name: str) -> str:
    """The name in the base of a weight of the adapter's file."""
    return _WRAPPERS.sub("", name.removeprefix(_PREFIX))


def _resize(
    source: str,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: Mapping[str, Tensor],
    settings: Mapping[str, Any],
) -> None:
    """Give the base as many embeddings as the adapter's file holds, and refuse a tokenizer that has more tokens."""
    embedding: Any = base.get_input_embeddings()
    name = next(name for name, module in base.named_modules() if module is embedding)
    rows = [len(weight) for key, weight in weights.items() if _in_base(key) == f"{name}.weight"]
    trained = [key for key in weights if key.startswith(f"{_PREFIX}{name}.") and "trainable_tokens" in key]
    there = rows[0] if rows else len(embedding.weight)
    if not rows and trained:
        given = settings.get("trainable_token_indices") or settings.get("token_indices") or []
        added = {index for part in (given.values() if isinstance(given, dict) else [given]) for index in part}
        while there in added:
            there += 1
    if len(tokenizer) > there:
        raise ValueError(
            f"`model` {source!r} is a PEFT adapter whose tokenizer has {len(tokenizer)} tokens, and there are {there} "
            "embeddings: those of the added tokens were not saved. Save them by `save_embedding_layers=True`."
        )
    if there != len(embedding.weight):
        base.resize_token_embeddings(there, mean_resizing=False)


def _merged(
    source: str, base: PreTrainedModel, settings: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> PreTrainedModel:
    """The base with the adapter in its weights, every weight of the file used and every one of the adapter filled."""
    with _fitting(source):
        model: Any = peft.get_peft_model(base, _peft_config(base, settings, weights))
        result: Any = peft.set_peft_model_state_dict(model, dict(weights))
        # AdaLoRA's `ranknum` is a constant, which is not saved.
        parts = {name: set(name.split(".")) for name in result.missing_keys}
        empty = [name for name in parts if "default" in parts[name] and "ranknum" not in parts[name]]
        for told, names in (("lack", empty), ("have, without a place for it,", result.unexpected_keys)):
            if names:
                raise ValueError(f"its weights {told} {min(names)!r}, one of {len(names)}")
        return model.eval().merge_and_unload()


@contextmanager
def _fitting(source: str) -> Iterator[None]:
    """Turn whatever PEFT raises on contradictory files into one error."""
    try:
        yield
    except Exception as error:  # the files are a stranger's: any type of error may come out of them
        raise ValueError(
            f"`model` {source!r} is a PEFT adapter whose adapter_config.json, weights and base do not fit together: "
            f"{error or type(error).__name__}"
        ) from error


def _peft_config(base: PreTrainedModel, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """PEFT's configuration; modules that are given by a regular expression are those that have weights."""
    values = {**settings, "base_model_name_or_path": None, "inference_mode": True}
    targets, left_out = values.get("target_modules"), values.get("exclude_modules")
    if any(isinstance(names, str) and not _is_plain(names) for names in (targets, left_out)):
        modules = dict(base.named_modules())
        values["target_modules"] = sorted({name for key in weights if (name := _adapted(key, modules)) is not None})
        values |= {"exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
    return peft.PeftConfig.from_peft_type(**values)


def _adapted(key: str, modules: Mapping[str, torch.nn.Module]) -> str | None:
    """The module of the base that a weight of the adapter's file adapts; None where the weight is the base's own."""
    name = module = key.removeprefix(_PREFIX)
    while module not in modules:
        module = module.rpartition(".")[0]  # the whole model has the empty name
    weight = _WRAPPERS.sub("", name[len(module) :]).removeprefix(".")
    return None if weight in dict(modules[module].named_parameters(recurse=False)) else module or None
