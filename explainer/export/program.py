"""An attributor as one function of tensors, free of Python: what `torch.export` traces and ONNX is made from."""

import inspect
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from explainer.explained import EncodedText, ExplainedModel, TokenBatch
from explainer.explained.base import PREDICTED, chosen_or_predicted
from explainer.export.sentences import SAMPLE
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Logits, Scores, Target

Run = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""Whatever runs the program: its inputs by name to logits (batch, labels) and scores (batch, seq)."""

TOLERANCE = 1e-4
N_CHECKED = 16


class ExportableAttributor(nn.Module):
    """Prediction and scores from token ids alone; special tokens and padding get 0, whatever the batch.

    Padding lies on the right. Any id may stand there.
    """

    special_ids: Tensor

    def __init__(self, explained: ExplainedModel, method: Amortized) -> None:
        super().__init__()
        self.explained, self.method, self.explainer = explained, method, method.explainer
        self.register_buffer("special_ids", explained.text.special_ids.to(explained.device), persistent=False)

    def forward(
        self,
        input_ids: Int64[Tensor, "batch seq"],
        attention_mask: Int64[Tensor, "batch seq"],
        target: Target,
        token_type_ids: Int64[Tensor, "batch seq"] | None = None,
    ) -> tuple[Logits, Scores]:
        """Logits, and scores for the class `target` of each row, where -1 stands for the predicted class."""
        real = attention_mask.bool()
        special = (input_ids[..., None] == self.special_ids).any(dim=-1)
        batch = TokenBatch(
            # RoBERTa's positions and a decoder's pooling are read off the padding id.
            input_ids=input_ids.masked_fill(~real, self.explained.tokenizer.pad_token_id),
            attention_mask=attention_mask,
            scorable=real & ~special,
            token_type_ids=token_type_ids,
        )
        return _run(self.explained, self.method, batch, target)


def exported_program(explained: ExplainedModel, method: Amortized, texts: Sequence[str] = SAMPLE) -> ExportedProgram:
    """The attributor traced by `torch.export`, with a batch and a length of any size, and checked.

    Raises:
        ValueError: when the model is not in float32 or cannot be traced, there is no text to check it on, or the
            program computes something else.
    """
    if explained.model.dtype != torch.float32:
        raise ValueError(
            f"The explained model is in {explained.model.dtype}, a program is made in torch.float32: load the "
            "attributor anew, without `dtype`."
        )
    if len(texts) == 0:
        raise ValueError("`texts` is empty: a program is checked on some.")
    inputs = example(explained, texts)
    batch, seq = Dim("batch"), Dim("seq", max=explained.text.max_tokens)
    shapes = {name: {0: batch} if value.ndim == 1 else {0: batch, 1: seq} for name, value in inputs.items()}
    try:
        with torch.no_grad():
            program = torch.export.export(
                ExportableAttributor(explained, method).eval(), (), kwargs=inputs, dynamic_shapes=shapes
            )
    except Exception as error:  # each layer of tracing has its own
        raise ValueError(
            f"{type(explained.model).__name__} with a {method.explainer.kind} explainer cannot be traced by "
            f"torch.export ({reason(error)}): it stays in PyTorch."
        ) from error
    module = program.module()
    check(lambda tensors: module(**tensors), explained, method, texts, "The exported program")
    return program


def example(explained: ExplainedModel, texts: Sequence[str]) -> dict[str, Tensor]:
    """The program's inputs for the first and the last text, each with a target of its own kind."""
    return inputs_of(explained, explained.encode([texts[0], texts[-1]]), torch.tensor([PREDICTED, 0]))


def inputs_of(explained: ExplainedModel, texts: list[EncodedText], target: Target) -> dict[str, Tensor]:
    """The program's inputs by name: texts padded on the right; token types only where the model reads them."""
    batch = explained.collate(texts)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "target": target.to(batch.device)}
    if batch.token_type_ids is not None and "token_type_ids" in inspect.signature(explained.model.forward).parameters:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


@torch.no_grad()
def check(run: Run, explained: ExplainedModel, method: Amortized, texts: Sequence[str], what: str) -> float:
    """The largest difference of a program's padded batches from the attributor's own, text by text.

    Raises:
        ValueError: when it is above `TOLERANCE`, absolute or relative to the value.
    """
    encoded = explained.encode(texts[:N_CHECKED])
    targets = torch.tensor([i % (len(explained.labels) + 1) - 1 for i in range(len(encoded))])
    expected = [reference(explained, method, text, target) for text, target in zip(encoded, targets, strict=True)]
    largest = 0.0
    for rows in (slice(1), slice(1, 4), slice(len(encoded))):  # one text, three, all: each batch of another length
        if not encoded[rows]:
            continue
        logits, scores = run(inputs_of(explained, encoded[rows], targets[rows]))
        for found, row, (own, aim) in zip(logits, scores, expected[rows], strict=True):
            for here, there in ((found, own), (row, nn.functional.pad(aim, (0, len(row) - len(aim))))):
                largest = max(largest, _difference(here.cpu(), there.cpu()))
    if not largest <= TOLERANCE:
        raise ValueError(
            f"{what} of {explained.name!r} differs from PyTorch by {largest:.1e}, more than {TOLERANCE:.0e}: "
            "it is not written."
        )
    return largest


@torch.no_grad()
def reference(
    explained: ExplainedModel, method: Amortized, text: EncodedText, target: Tensor
) -> tuple[Float[Tensor, " labels"], Float[Tensor, " tokens"]]:
    """Logits and scores of one text by PyTorch, alone in its batch, its special tokens told by the tokenizer."""
    batch = explained.collate([text])
    logits, scores = _run(explained, method, batch, target[None].to(batch.device))
    return logits[0], scores[0]


def _run(explained: ExplainedModel, method: Amortized, batch: TokenBatch, target: Target) -> tuple[Logits, Scores]:
    logits, score = method.predicting(explained, batch)
    return logits, score(chosen_or_predicted(target[:, None], logits)[:, 0])


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest, absolute or relative to a value above 1; infinite where one is NaN."""
    apart = (found - expected).abs() / expected.abs().clamp(min=1)
    return float(apart.nan_to_num(nan=torch.inf).max())


def reason(error: BaseException) -> str:
    """The first line of what an error goes back to."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
