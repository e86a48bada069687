"""The explained model as captum calls one: on the word embeddings of a batch, or on the token ids of one text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import scorable_only
from explainer.methods.random import generator_of
from explainer.typing import Embeddings, Logits, Scores, Target, TokenMask


class CaptumForward:
    """The explained model on embeddings: embeddings first, then the tensors of a TokenBatch."""

    def __init__(self, explained: ExplainedModel) -> None:
        self.explained = explained

    def __call__(self, embeddings: Tensor, ids: Tensor, mask: Tensor, scorable: Tensor, types: Any = None) -> Logits:
        return self.explained(TokenBatch(ids, mask, scorable, types), edit=lambda _: embeddings)

    def embeddings(self, batch: TokenBatch) -> Embeddings:
        """The word embeddings that the ids would get."""
        found: list[Tensor] = []

        def read(embeddings: Tensor) -> Tensor:
            found.append(embeddings)
            return embeddings

        with torch.no_grad():
            self.explained(batch, edit=read)
        return found[0]

    def without(self, batch: TokenBatch, embeddings: Embeddings) -> Embeddings:
        """Those embeddings with the baseline token's at every scorable position."""
        baseline = self.explained.baseline_embedding().to(embeddings.dtype)
        return torch.where(batch.scorable[..., None], baseline, embeddings)

    def arguments(self, batch: TokenBatch, rows: Tensor | None = None) -> tuple[Any, ...]:
        """The batch (or its `rows`) as the additional forward arguments that captum expands over its steps."""
        tensors = (batch.input_ids, batch.attention_mask, batch.scorable, batch.token_type_ids)
        return tuple(t if t is None or rows is None else t[rows] for t in tensors)


class TextForward:
    """The explained model on one text, as a function of the ids of its scorable tokens; the rest of it stays."""

    def __init__(self, explained: ExplainedModel, row: Tokens, scorable: TokenMask) -> None:
        self.explained = explained
        self.row = row
        self.scorable = scorable

    def __call__(self, ids: Int64[Tensor, "rows scorable"]) -> Logits:
        return self.explained.predict([self._with(row) for row in ids])

    def _with(self, ids: Tensor) -> Tokens:
        return replace(self.row, input_ids=self.row.input_ids.masked_scatter(self.scorable, ids))

    @property
    def ids(self) -> Int64[Tensor, "1 scorable"]:
        """The text's own ids."""
        return self.row.input_ids[self.scorable][None]

    def present(self, presence: Float[Tensor, "rows scorable"]) -> Logits:
        """The logits where `presence` is 1 and the baseline token stands where it is 0."""
        return self(torch.where(presence.bool(), self.ids, self.explained.baseline_token_id))


def text_by_text(
    explained: ExplainedModel, batch: TokenBatch, target: Target, score: Callable[[TextForward, int], Tensor]
) -> Scores:
    """Scores of methods that captum runs on one text at a time: `score(forward, target)` gives one a scorable token."""
    cpu = batch.to("cpu")
    scores = torch.zeros(batch.input_ids.shape)
    for i, (row, mask) in enumerate(zip(cpu.rows(), cpu.split(cpu.scorable), strict=True)):
        if mask.any():
            scores[i, cpu.scorable[i]] = score(TextForward(explained, row, mask), int(target[i])).float()
    return scorable_only(scores.to(batch.device), batch)


def alone(batch: TokenBatch, i: int) -> TokenBatch:
    """Text `i` as a batch without padding."""
    real = batch.attention_mask[i].bool()
    types = batch.token_type_ids
    ids, mask, scorable = (t[i : i + 1, real] for t in (batch.input_ids, batch.attention_mask, batch.scorable))
    return TokenBatch(ids, mask, scorable, None if types is None else types[i : i + 1, real])


@contextmanager
def seeded(row: Tokens, seed: int, device: torch.device) -> Iterator[None]:
    """captum draws from the global generators: inside the block their state is the text's own, afterwards as before."""
    own = generator_of(row, seed).initial_seed()
    state = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(own)
        np.random.seed(own % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


def over_subsets(method: Any, forward: TextForward, target: int, n_samples: int, seed: int) -> Tensor:
    """What captum's LIME or KernelSHAP gives each scorable token: subsets replaced by the baseline token, one batch."""
    with seeded(forward.row, seed, forward.ids.device):
        return method.attribute(
            forward.ids,
            baselines=forward.explained.baseline_token_id,
            target=target,
            n_samples=n_samples,
            perturbations_per_eval=n_samples,
        )[0]
