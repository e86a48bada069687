"""ONNX: an attributor as one file that ONNX Runtime runs without torch, and the tokenizer beside it."""

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.export import ExportedProgram

from explainer.explained import ExplainedModel
from explainer.export.agreement import agreement
from explainer.export.program import Run, check, example, exported_program, reason
from explainer.export.sentences import SAMPLE
from explainer.methods.trained.amortized import Amortized

OUTPUTS = ["logits", "scores"]


def write_onnx(
    explained: ExplainedModel, method: Amortized, path: Path, texts: Sequence[str] = SAMPLE, int8: bool = False
) -> dict[str, Any]:
    """Write `path`, and beside it STEM.tokenizer.json and STEM.json; returns what STEM.json says.

    Inputs: int64 input_ids and attention_mask (batch, seq), target (batch,) with -1 for the predicted class, and
    token_type_ids where the model reads them; padding on the right. Outputs: float32 logits (batch, labels) and scores
    (batch, seq), 0 at special tokens and padding.

    Args:
        texts: what the file is checked on, and the int8 one compared on.
        int8: quantise the weights to int8, and the activations as they come: smaller, no longer equal to 1e-4.

    Raises:
        ImportError: when a package is missing.
        ValueError: when the attributor cannot be traced, or ONNX Runtime computes something else: nothing is written.
    """
    _check_installed()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder) / path.name
        _convert(exported_program(explained, method, texts), example(explained, texts), file)
        difference = check(_runner(file), explained, method, texts, "The ONNX file")
        facts = _about(explained) | {"largest_difference": difference}
        if int8:
            _quantise(file)
            facts["int8"] = agreement(_runner(file), explained, method, texts).record()
        portable_tokenizer(explained).save(str(file.with_suffix(".tokenizer.json")))
        file.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n")
        for written in Path(folder).iterdir():
            shutil.move(written, path.parent / written.name)
    return facts


def portable_tokenizer(explained: ExplainedModel) -> Tokenizer:
    """The tokenizer as the `tokenizers` package alone reads it, cutting and padding as the program wants it."""
    tokenizer = Tokenizer.from_str(explained.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    if explained.text.max_tokens is not None:
        tokenizer.enable_truncation(explained.text.max_tokens)
    pad = {"pad_id": explained.tokenizer.pad_token_id, "pad_token": explained.tokenizer.pad_token}
    tokenizer.enable_padding(direction="right", **pad)
    return tokenizer


def _about(explained: ExplainedModel) -> dict[str, Any]:
    """What a reader of the file must know and cannot see in it."""
    return {
        "labels": explained.labels,
        "max_tokens": explained.text.max_tokens,
        "special_token_ids": explained.text.special_ids.tolist(),
    }


def _convert(program: ExportedProgram, inputs: dict[str, Tensor], file: Path) -> None:
    """`program` as an ONNX file; weights of more than 2 GB lie beside it."""
    axes = {name: {0: "batch", 1: "seq"} if value.ndim == 2 else {0: "batch"} for name, value in inputs.items()}
    names: dict[str, Any] = {"input_names": list(inputs), "output_names": OUTPUTS}
    try:
        with _quiet():
            converted = torch.onnx.export(program, (), dynamic_shapes=axes, dynamo=True, verbose=False, **names)
    except Exception as error:  # each step of the conversion has its own
        raise ValueError(
            f"ONNX cannot express this attributor ({reason(error)}): serve it by PyTorch, or by `to_exported_program`."
        ) from error
    assert converted is not None
    converted.save(file)


@contextmanager
def _quiet() -> Iterator[None]:
    """What the exporter says of other packages that are not there, and of its own past, untold."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is not installed
    try:
        with warnings.catch_warnings():
            # https://github.com/pytorch/pytorch: copying its own tree specifications warns.
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*The axis name: (batch|seq) will not be used.*")
            yield
    finally:
        logger.setLevel(level)


def _quantise(file: Path) -> None:
    """Weights in int8, one scale a column; of seven bits, because older processors overflow with eight."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(file)
    model.graph.ClearField("value_info")  # those of before the exporter's own optimisation
    onnx.save(model, file)
    quant_pre_process(file, file, skip_symbolic_shape=True)
    quantize_dynamic(file, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def _runner(file: Path) -> Run:
    """ONNX Runtime on the CPU, with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        found = session.run(OUTPUTS, {name: value.cpu().numpy() for name, value in inputs.items()})
        logits, scores = (torch.from_numpy(values) for values in found)
        return logits, scores

    return run


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {', '.join(missing)}: pip install 'amortex[onnx]'.")
