"""Run a method over any number of texts: batches under the token budget, results in order."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from rich.progress import track
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.explained.base import chosen_or_predicted
from explainer.explained.passes import token_budgeted
from explainer.methods.base import AbstractMethod
from explainer.typing import RaggedScores, Target


# Gradient methods work wherever they are called from, also inside a test loop's inference mode.
@torch.inference_mode(False)
@torch.enable_grad()
def scores_of(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    target: Target,
    progress: str | None = None,
) -> RaggedScores:
    """One tensor (tokens,) of scores a text, on the CPU, in the order of the texts.

    Args:
        target: the class explained, one a text.
        progress: what to write beside a progress bar; no bar when None.
    """
    scores = [torch.empty(0)] * len(texts)
    chunks = token_budgeted([len(text) for text in texts], explained.batch_tokens)
    for chunk in track(chunks, progress or "", disable=progress is None):
        batch = explained.collate([texts[i] for i in chunk])
        found = method(explained, batch, target[chunk].to(explained.device))
        for i, row in zip(chunk, batch.split(found), strict=True):
            scores[i] = row.cpu()
    return scores


@torch.inference_mode(False)
@torch.enable_grad()
def predictions_and_scores(
    method: AbstractMethod,
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    targets: Int64[Tensor, "texts targets"],
    progress: str | None = None,
) -> tuple[Float[Tensor, "texts labels"], Int64[Tensor, "texts targets"], list[Float[Tensor, "targets _"]]]:
    """Each text's probabilities, its targets, and its scores (targets, tokens) for each of them; all on the CPU.

    Where the method can, prediction and explanation come from one pass (`AbstractMethod.predicting`).

    Args:
        targets: the classes explained; `PREDICTED` stands for the predicted one.
        progress: what to write beside a progress bar; no bar when None.
    """
    exact = torch.promote_types(explained.model.dtype, torch.float32)
    probabilities = torch.empty(len(texts), len(explained.labels), dtype=exact)
    targets, scores = targets.clone(), [torch.empty(targets.shape[1], 0)] * len(texts)
    chunks = token_budgeted([len(text) for text in texts], explained.batch_tokens)
    for chunk in track(chunks, progress or "", disable=progress is None):
        batch = explained.collate([texts[i] for i in chunk])
        logits, score = method.predicting(explained, batch)
        wanted = chosen_or_predicted(targets[chunk].to(logits.device), logits)
        probabilities[chunk], targets[chunk] = logits.softmax(dim=1).cpu(), wanted.cpu()
        found = [batch.split(score(target)) for target in wanted.unbind(dim=1)]
        for i, rows in zip(chunk, zip(*found, strict=True), strict=True):
            scores[i] = torch.stack(rows).cpu()
    return probabilities, targets, scores
