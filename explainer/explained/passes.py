"""One pass through a model: its inputs from a batch, the embedding seam, and batches under a token budget."""

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from explainer.explained.batch import TokenBatch

EmbeddingEdit = Callable[[Tensor], Tensor]


def model_inputs(model: nn.Module, batch: TokenBatch) -> dict[str, Any]:
    """The batch as the keyword arguments that this model's forward takes, positions counted past any padding."""
    accepted = inspect.signature(model.forward).parameters
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if "use_cache" in accepted:
        inputs["use_cache"] = False  # nothing is generated, and a layer that is run again must not find itself in it
    # RoBERTa and its like count positions from the padding index, and do so themselves from the ids.
    counts_itself = any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())
    if "position_ids" in accepted and not counts_itself:
        inputs["position_ids"] = batch.position_ids
    if "token_type_ids" in accepted and batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def in_order(edit: EmbeddingEdit | None, order: Tensor | None) -> EmbeddingEdit | None:
    """The edit of a batch's own columns as an edit of the aligned ones."""
    if edit is None or order is None:
        return edit

    def moved(embeddings: Tensor) -> Tensor:
        there = order[..., None].expand_as(embeddings)
        back = order.argsort(dim=1)[..., None].expand_as(embeddings)
        return edit(embeddings.gather(1, back)).gather(1, there)

    return moved


@contextmanager
def edit_output(module: nn.Module, edit: EmbeddingEdit | None, call: int = 0) -> Iterator[None]:
    """Map the output of one call of the module inside the block (the first by default) by `edit`, if there is one."""
    if edit is None:
        yield
        return
    calls = itertools.count()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return edit(output) if next(calls) == call else None

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def token_budgeted(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices in batches of similar length: rows times longest row at most `batch_tokens` (one row at least)."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


@contextmanager
def layer_states(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The hidden states of the pass inside the block: what enters the first layer, and what leaves each layer.

    A pass that another thread runs through the same model meanwhile is not recorded.
    """
    states: list[Tensor] = []
    thread = threading.get_ident()

    def entering(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() == thread:
            states.append(args[0] if args else kwargs["hidden_states"])

    def leaving(layer: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            states.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        hooks.callback(layers[0].register_forward_pre_hook(entering, with_kwargs=True).remove)
        for layer in layers:
            hooks.callback(layer.register_forward_hook(leaving).remove)
        yield states
