"""One pass through a model: its inputs from a batch, edits of a module's output, batches under a token budget."""

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
    attended = batch.attention_mask if batch.hidden is None else batch.attention_mask.masked_fill(batch.hidden, 0)
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": attended}
    if "use_cache" in accepted:
        # No key-value cache: nothing is generated, and recomputing a layer would append its keys a second time.
        inputs["use_cache"] = False
    if "position_ids" in accepted and not counts_positions_from_padding(model):
        inputs["position_ids"] = batch.position_ids
    if "token_type_ids" in accepted and batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def counts_positions_from_padding(model: nn.Module) -> bool:
    """Whether the model counts positions from the padding index, and does so itself from the ids (RoBERTa)."""
    return any(hasattr(module, "create_position_ids_from_input_ids") for module in model.modules())


def in_order(edit: EmbeddingEdit | None, order: Tensor | None) -> EmbeddingEdit | None:
    """The edit of a batch's own columns as an edit of the right-padded ones."""
    if edit is None or order is None:
        return edit

    def moved(embeddings: Tensor) -> Tensor:
        padded = order[..., None].expand_as(embeddings)
        original = order.argsort(dim=1)[..., None].expand_as(embeddings)
        return edit(embeddings.gather(1, original)).gather(1, padded)

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
