"""Run the lower blocks of a model once, and the blocks above them as often as wanted.

A change of the attention of block `layer` leaves everything below it as it was. The hidden state that enters that block
is recorded in one pass; afterwards the blocks below return it instead of computing it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from explainer.explained.attention import check_one_per_layer
from explainer.explained.batch import TokenBatch
from explainer.explained.model import ExplainedModel
from explainer.explained.readout import Readout, precise
from explainer.typing import Embeddings


class UpperLayers:
    """The explained model from block `layer` up, for the texts of one batch.

    Building it runs the whole model once, without gradients; inside a block of `edit_attention_weights` that pass is
    where the attention can be read. Every call after that skips `explained.layers[:layer]`. Between calls, and after an
    exception, nothing is left in the model.

    Args:
        batch: the texts; kept as `batch`, right-padded (`TokenBatch.right_padded`).
        layer: the first block to run, an index of `explained.layers`; negative counts from the end.

    Raises:
        ValueError: when there is no such block.
    """

    hidden: Embeddings
    """The state that enters block `layer`."""

    def __init__(self, explained: ExplainedModel, batch: TokenBatch, layer: int) -> None:
        self.explained = explained
        self.batch = batch.right_padded()[0]
        self.layer = layer_index(explained, layer)
        self._handed_on: Any = None
        self.readout = self._record()

    def __call__(self, texts: Int64[Tensor, " n"]) -> Readout:
        """The answer for some of the texts (indices into the batch, each as often as wanted), in that order."""
        with _handing_on(self.explained.layers[: self.layer], _of_texts(self._handed_on, texts)):
            return self.explained(self.batch[texts])

    @torch.no_grad()
    def _record(self) -> Readout:
        def entering(block: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.hidden = inputs[0]

        def leaving(block: nn.Module, inputs: Any, output: Any) -> None:
            self._handed_on = output

        with ExitStack() as hooks:
            hooks.callback(self.explained.layers[self.layer].register_forward_pre_hook(entering).remove)
            for block in self.explained.layers[: self.layer][-1:]:
                hooks.callback(block.register_forward_hook(leaving).remove)
            return self.explained(self.batch)


class LayerAttention:
    """The edit, for `edit_attention_weights`, that reads the attention of some blocks, or supplies it.

    Attributes:
        supplied: (layers, batch, heads, queries, keys), used instead of the attention computed; None to read it.
    """

    def __init__(self, explained: ExplainedModel, layers: Sequence[int]) -> None:
        indices = [layer_index(explained, layer) for layer in layers]
        self._place = {module: i for i, layer in enumerate(indices) for module in explained.layers[layer].modules()}
        self._model, self._n_layers = explained.model, len(indices)
        self._recorded: dict[int, Tensor] = {}
        self.supplied: Float[Tensor, "layers batch heads seq seq"] | None = None

    def __call__(self, module: nn.Module, weights: Tensor) -> Tensor:
        place = self._place.get(module)
        if place is None:
            return weights
        if self.supplied is not None:
            return self.supplied[place]
        self._recorded[place] = weights.detach()
        return weights

    @property
    def attention(self) -> Float[Tensor, "layers batch heads seq seq"]:
        """The attention of the last pass that read it, in float32 at least; right-padded.

        Raises:
            ValueError: when one of the blocks has none.
        """
        recorded = [self._recorded[place] for place in sorted(self._recorded)]
        check_one_per_layer(self._model, self._n_layers, [weights.shape for weights in recorded])
        return precise(torch.stack(recorded))


def layer_index(explained: ExplainedModel, layer: int) -> int:
    """The index from 0 of a block given from either end.

    Raises:
        ValueError: when there is no such block.
    """
    depth = len(explained.layers)
    if not -depth <= layer < depth:
        raise ValueError(f"`layer` must lie between {-depth} and {depth - 1} (the model has {depth}), got {layer}.")
    return layer % depth


def _of_texts(output: Any, texts: Tensor) -> Any:
    """A block's output for some of its texts: a state, or a tuple of a state and what holds for every text (T5)."""
    return (output[0][texts], *output[1:]) if isinstance(output, tuple) else None if output is None else output[texts]


@contextmanager
def _handing_on(blocks: list[nn.Module], output: Any) -> Iterator[None]:
    """Make every one of the blocks return `output` without computing anything."""
    # An instance's own `forward` takes precedence over its class's, and can be removed without a trace.
    try:
        for block in blocks:
            block.forward = lambda *args, **kwargs: output
        yield
    finally:
        for block in blocks:
            del block.forward
