"""transformers' loaders as this package calls them: no code of strangers runs, and what a file lacks is known."""

import importlib.util
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging
from transformers.utils.hub import cached_file

from explainer.explained.weights import GGUF, check_finite, shapes_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""The precisions of weights, by their names in commands and configurations."""


def dtype_named(name: str, option: str = "dtype") -> torch.dtype:
    """The precision of that name.

    Args:
        option: what the name was given as, for the error.

    Raises:
        ValueError: when there is none.
    """
    if name not in DTYPES:
        raise ValueError(f"`{option}` must be one of {', '.join(DTYPES)}, got {name!r}.")
    return DTYPES[name]


DeviceMap = str | dict[str, Any] | None
"""Where the parts of a model are put, as transformers has it ("auto", or a device for each part)."""

_GROWTH = 16
"""Weights that a quantised file packs into one number, at most: a model that is larger than that is another one."""


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


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Turn whatever transformers raises on the files of `source` into an error that names them."""
    try:
        yield
    except Exception as error:  # the files are a stranger's: any type of error may come out of them
        told = str(error) or type(error).__name__
        if "trust_remote_code" in told:
            told = "it needs code that comes with its files, and Amortex never runs such code."
        raise ValueError(f"`model` {source!r} could not be loaded: {told}") from error


def config_of(source: str, **values: Any) -> PreTrainedConfig:
    """The configuration of a hub id or folder, with some values replaced.

    Raises:
        ValueError: when it cannot be read, or would run code that is not in transformers.
    """
    place, file = _place_of(source)
    with reading(source):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, **file, **values)
    for part in [config, *(getattr(config, name, None) for name in config.sub_configs)]:
        attention = getattr(part, "_attn_implementation", None)
        if isinstance(attention, str) and "/" in attention:
            raise ValueError(
                f"`model` {source!r} names attention code on the hub ({attention!r}), and Amortex never runs such "
                "code: take `attn_implementation` out of its config.json."
            )
    return config


def tokenizer_of(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or folder.

    Raises:
        ValueError: when it cannot be read, or would run code that comes with it.
    """
    place, file = _place_of(source)
    # `AutoTokenizer` would read the whole head of a GGUF file once more, only to take this class.
    kind: Any = PreTrainedTokenizerFast if file else AutoTokenizer
    with reading(source):
        return kind.from_pretrained(place, trust_remote_code=False, **file)


def _place_of(source: str) -> tuple[str, dict[str, Any]]:
    """The hub id or folder for transformers' loaders, and the argument that names a GGUF file in it."""
    if not source.endswith(GGUF):
        return source, {}
    if missing := [package for package in ("gguf", "accelerate") if importlib.util.find_spec(package) is None]:
        raise ValueError(
            f"`model` {source!r} is a GGUF file, and reading it needs the package `{missing[0]}`: install Amortex with "
            "the extra `llm`."
        )
    return str(Path(source).parent), {"gguf_file": Path(source).name}


def model_of(
    auto_model: Any, source: str, config: PreTrainedConfig, dtype: torch.dtype, device_map: DeviceMap = None
) -> tuple[PreTrainedModel, set[str]]:
    """A model in eval mode, and the names of its weights that the files lack, which are random.

    A GGUF file's weights are dequantised: the model is a plain one of `dtype`, which can be saved.

    Args:
        device_map: where transformers puts the parts of the model; None is the processor.

    Raises:
        ValueError: when the files cannot be read, are of another model, or hold NaN or infinite numbers.
    """
    place, more = _place_of(source)
    if more:
        more["quantization_config"] = GgufConfig(dequantize=True)
    else:
        _check_size(auto_model, source, config)
    if device_map is not None:
        more["device_map"] = device_map
    # The bar of a GGUF file is tqdm's own, which transformers cannot switch off.
    with reading(source), quiet(), redirect_stderr(StringIO()) if source.endswith(GGUF) else nullcontext():
        model, report = auto_model.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
            **more,
        )
    if source.endswith(GGUF):
        _forget_quantisation(model)
    check_finite(model.named_parameters(), source)
    own = {_any_layer(name) for name in model.state_dict()}
    if beyond := sorted(name for name in report["unexpected_keys"] if _any_layer(name) in own):
        raise ValueError(
            f"`model` {source!r} is not all used: its config.json counts fewer layers than its weights have, such as "
            f"{beyond[0]!r}."
        )
    return model, {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}


def _forget_quantisation(model: PreTrainedModel) -> None:
    """Take away the marks of a quantised file from a model whose weights are plain: transformers refuses to save it."""
    for marked in (model, model.config):
        for name in ("hf_quantizer", "is_quantized", "quantization_method", "quantization_config"):
            vars(marked).pop(name, None)


def check_complete(source: str, missing: set[str]) -> None:
    """Refuse a model some of whose weights are random.

    Raises:
        ValueError: naming one of the weights.
    """
    if missing:
        raise ValueError(
            f"`model` {source!r} is not all there: {len(missing)} of its weights are in no file, or have another shape "
            f"there, such as {min(missing)!r}. They would be random. Save the whole model, its head and pooler "
            "included (in PEFT by `modules_to_save`)."
        )


def optional_file(source: str, file: str) -> Path | None:
    """The path of a file of a hub id or folder; None where there is none."""
    with reading(source):
        found = cached_file(
            source,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    return None if found is None else Path(found)


def _check_size(auto_model: Any, source: str, config: PreTrainedConfig) -> None:
    """Refuse a configuration of a far larger model than the file holds, before its weights take memory."""
    file = optional_file(source, "model.safetensors")
    if file is None:
        return
    shapes = shapes_of(file)
    held = sum(torch.Size(shape).numel() for shape in shapes.values())
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > len(shapes):
        raise ValueError(
            f"`model` {source!r} is not all there: its config.json has {layers} layers, its weights are {len(shapes)} "
            "tensors."
        )
    with reading(source), torch.device("meta"), quiet():
        wanted = sum(weight.numel() for weight in auto_model.from_config(config, trust_remote_code=False).parameters())
    if wanted > _GROWTH * held + 2**20:
        raise ValueError(
            f"`model` {source!r} is not all there: its config.json wants {wanted:,} weights, and the file holds "
            f"{held:,}."
        )


def _any_layer(name: str) -> str:
    """A weight's name without the numbers of layers."""
    return re.sub(r"\.\d+\.", ".#.", name)
