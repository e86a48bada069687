"""The explained model as captum calls one: on a batch's word embeddings, or on the presence of one text's units."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target, TokenBatch, Tokens
from explainer.explained.readout import PerText, precise
from explainer.methods.random import generator_of
from explainer.typing import Embeddings


class CaptumForward:
    """The target's objective, one number per row, as a function of the word embeddings.

    The further arguments are those of `arguments`. captum repeats the tensors among them over its steps, so every row
    keeps its own target.
    """

    def __init__(self, explained: ExplainedModel) -> None:
        self.explained = explained

    def __call__(self, embeddings: Tensor, choices: Tensor, foil: Any, score: Any, *tensors: Any) -> PerText:
        target = Target(choices, foil, score)
        *of_tokens, decoder = tensors
        batch = replace(TokenBatch(*of_tokens), decoder=decoder)
        return self.explained.objective(batch, target, edit=lambda own: embeddings.to(own.dtype))

    def arguments(self, batch: TokenBatch, target: Target) -> tuple[Any, ...]:
        """The additional forward arguments of a batch and its target."""
        return target.choices, target.foil, target.score, *batch.tensors, batch.decoder

    def embeddings(self, batch: TokenBatch) -> Embeddings:
        """The word embeddings that the ids would get, in float32 at least: paths between them are computed there."""
        recorded: list[Tensor] = []

        def read(embeddings: Tensor) -> Tensor:
            recorded.append(embeddings)
            return embeddings

        with torch.no_grad():
            self.explained(batch, edit=read)
        return precise(recorded[0])

    def without(self, batch: TokenBatch, embeddings: Embeddings) -> Embeddings:
        """Those embeddings with the baseline token's at every scorable position."""
        baseline = self.explained.baseline_embedding().to(embeddings.dtype)
        return torch.where(batch.scorable[..., None], baseline, embeddings)


class TextForward:
    """The target's objective of one text as a function of the presence of its units.

    Args:
        target: of one row.
    """

    def __init__(self, explained: ExplainedModel, text: EncodedText, target: Target) -> None:
        self.explained = explained
        self.text = text
        self.target = target
        self.units = text.unit_masks

    def __call__(self, presence: Float[Tensor, "rows units"]) -> Float[Tensor, " rows"]:
        """One number per row: a unit stays where its presence is 1, and is the baseline token where it is 0."""
        absent = (~presence.bool()).float() @ torch.stack(self.units).float() > 0
        sequences = [self.text.tokens.replaced(mask, self.explained.baseline_token_id) for mask in absent]
        return self.explained.evaluate(sequences, self.target.repeat(len(sequences))).objective

    @property
    def whole(self) -> Float[Tensor, "1 units"]:
        """Every unit present."""
        return torch.ones(1, len(self.units))


@contextmanager
def seeded(tokens: Tokens, seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators, from which captum draws, by the text's own tokens; afterwards they are as before."""
    own = generator_of(tokens, seed).initial_seed()
    state = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(own)
        np.random.seed(own % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)
