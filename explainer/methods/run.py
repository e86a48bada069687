"""Run a method over any number of texts: batches under the token budget, results in order."""

from collections.abc import Sequence

import torch
from rich.progress import track

from explainer.explained import EncodedText, ExplainedModel
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
