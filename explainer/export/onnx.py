"""ONNX: an attributor as one file that ONNX Runtime runs without torch, with its tokenizer in a second file."""

import json
import logging
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
from explainer.explained.readout import Link
from explainer.export.agreement import agreement, check
from explainer.export.exportable import ExportableAttributor, Run
from explainer.export.program import exported_program, reason
from explainer.export.sentences import SENTENCES
from explainer.methods.trained.amortized import Amortized
from explainer.storage.atomic import replacing, unfinished

OUTPUTS = ["logits", "scores"]
PROBABILITIES: dict[Link, str | None] = {
    "softmax": "the softmax of a text's logits",
    "sigmoid": "the sigmoid of each logit",
    "identity": None,  # the logits are the predicted values
}


def write_onnx(
    explained: ExplainedModel, method: Amortized, path: Path, texts: Sequence[str] = SENTENCES, int8: bool = False
) -> dict[str, Any]:
    """Write the ONNX file `path`, its tokenizer STEM.tokenizer.json, and facts about it STEM.json.

    Inputs: int64 input_ids and attention_mask (batch, seq), target (batch,) with -1 for the predicted label, and
    token_type_ids where the model reads them; padding on the right. Outputs: float32 logits (batch, labels) and scores
    (batch, seq), 0 at special tokens and padding. Of a regression with several values none is the predicted one: there
    the scores for -1 are NaN.

    Args:
        texts: what the file is checked on, and the int8 one compared on.
        int8: quantise the weights to int8, and the activations as they come: smaller, no longer equal to 1e-4.

    Returns:
        The facts: labels, max_tokens, special_token_ids, task, link, probabilities (how to compute them of the logits;
        None where the logits are predicted values), largest_difference, int8.

    Raises:
        ImportError: when a package is missing.
        ValueError: when the attributor cannot be traced, or ONNX Runtime computes something else: nothing is written.
    """
    _check_installed()
    path = Path(path)
    program = exported_program(explained, method, texts)
    attributor = ExportableAttributor(explained, method)
    with unfinished(path) as folder:
        file = folder / path.name
        _convert(program, file)
        facts = _facts(explained) | {"largest_difference": check(_runner(file), attributor, texts, "The ONNX file")}
        if int8:
            _quantise(file)
            facts["int8"] = agreement(_runner(file), attributor, texts).record()
        portable_tokenizer(explained).save(str(file.with_suffix(".tokenizer.json")))
        file.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        for written in list(folder.iterdir()):
            with replacing(path.parent / written.name) as name:
                written.replace(name)
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


def _facts(explained: ExplainedModel) -> dict[str, Any]:
    """What a reader of the file must know and cannot see in it."""
    return {
        "labels": explained.labels,
        "max_tokens": explained.text.max_tokens,
        "special_token_ids": explained.text.special_ids.tolist(),
        "task": explained.task.name,
        "link": explained.task.link,
        "probabilities": PROBABILITIES[explained.task.link],
    }


def _convert(program: ExportedProgram, file: Path) -> None:
    """Save the program as an ONNX file; weights of more than 2 GB go into a second file."""
    inputs: dict[str, Tensor] = program.example_inputs[1]  # type: ignore[index]
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
    """Suppress the exporter's warnings about missing optional packages and its own deprecations."""
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
    """Weights in int8, one scale per column; of seven bits, because older processors overflow with eight."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(file)
    model.graph.ClearField("value_info")  # out of date since the exporter's own optimisation
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
        outputs = session.run(OUTPUTS, {name: value.cpu().numpy() for name, value in inputs.items()})
        logits, scores = (torch.from_numpy(values) for values in outputs)
        return logits, scores

    return run


def _check_installed() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(f"ONNX needs {', '.join(missing)}: pip install 'amortex[onnx]'.")
