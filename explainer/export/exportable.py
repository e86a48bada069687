"""An attributor as one function of tensors: the module that programs are traced from, and its inputs."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from explainer.explained import PREDICTED, EncodedText, ExplainedModel, Target, TokenBatch, ZeroShotClassification
from explainer.explained.conventions import accepts
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Logits, Scores

Indices = Int64[Tensor, " batch"]
"""A label's index per text; -1 (`PREDICTED`) stands for the predicted label."""

Run = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""Whatever runs a program: its inputs by name to logits (batch, labels) and scores (batch, seq)."""


class ExportableAttributor(nn.Module):
    """Prediction and scores from token ids alone; special tokens and padding get 0, whatever the batch.

    Padding lies on the right. Any id may stand there.

    Raises:
        ValueError: when the model's task has no closed list of labels, and so no outputs of one size, or padding
            changes what the model answers.
    """

    special_ids: Tensor

    def __init__(self, explained: ExplainedModel, method: Amortized) -> None:
        super().__init__()
        if explained.task.anchored or not (explained.labels and explained.task.closed):
            raise ValueError(
                f"The task {explained.task.name!r} has no closed list of labels, and a program needs one: its logits "
                "are (batch, labels). Serve this model by PyTorch."
            )
        if explained.task.frames_text:
            raise ValueError(
                f"The task {explained.task.name!r} has a prompt around the text, and a program reads ids, of which "
                "it does not know which are the text's: serve this model by PyTorch."
            )
        if isinstance(explained.task, ZeroShotClassification):
            raise ValueError(
                f"The task {explained.task.name!r} reads a text once for each label, and a program reads it once: "
                "serve this model by PyTorch."
            )
        if not method.explainer.reads_ids:
            raise ValueError(
                f"The {method.explainer.kind} explainer reads texts by a tokenizer of its own, and a program reads the "
                "ids of the explained model's: serve it by PyTorch."
            )
        if not explained.pads:
            raise ValueError(
                f"Padding changes what {type(explained.model).__name__} answers, and a program reads padded batches: "
                "serve this model by PyTorch, which gives it batches of equal lengths."
            )
        self.explained, self.method, self.explainer = explained, method, method.explainer
        self.register_buffer("special_ids", explained.text.special_ids.to(explained.device), persistent=False)

    @property
    def has_prediction(self) -> bool:
        """Whether there is a predicted label, for which -1 stands: none of a regression's several values is it."""
        return self.explained.task.link != "identity" or len(self.explained.labels) == 1

    def forward(
        self,
        input_ids: Int64[Tensor, "batch seq"],
        attention_mask: Int64[Tensor, "batch seq"],
        target: Indices,
        token_type_ids: Int64[Tensor, "batch seq"] | None = None,
    ) -> tuple[Logits, Scores]:
        """Logits, and scores for the label `target` of each text; NaN where -1 is no label (`has_prediction`)."""
        real = attention_mask.bool()
        special = torch.zeros_like(real)  # one comparison per id: a dimension of no ids is wrong in ONNX Runtime
        for special_id in self.special_ids:
            special = special | (input_ids == special_id)
        batch = TokenBatch(
            # RoBERTa's positions and a decoder's pooling are read off the padding id.
            input_ids=input_ids.masked_fill(~real, self.explained.tokenizer.pad_token_id),
            attention_mask=attention_mask,
            scorable=real & ~special,
            token_type_ids=token_type_ids,
        )
        return self.explain(batch, target)

    def explain(self, batch: TokenBatch, target: Indices) -> tuple[Logits, Scores]:
        """Logits and scores of a batch whose scorable tokens are known."""
        readout, score = self.method.predict_and_attribute(self.explained, batch)
        logits, missing = readout.logits[:, 0], target == PREDICTED
        scores = score(Target(torch.where(missing, logits.argmax(dim=-1), target)[:, None]))
        return logits, scores if self.has_prediction else scores.masked_fill(missing[:, None], torch.nan)

    def inputs(self, texts: Sequence[EncodedText], target: Indices) -> dict[str, Tensor]:
        """The arguments of `forward` by name: right-padded, with token types only where the model reads them."""
        batch = self.explained.collate(texts)
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        inputs["target"] = target.to(batch.device)
        reads_types = accepts(self.explained.model, "token_type_ids")
        if batch.token_type_ids is not None and reads_types:
            inputs["token_type_ids"] = batch.token_type_ids
        return inputs
