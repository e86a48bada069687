"""One pass through a model: its inputs from a batch, edits of a module's output, batches under a token budget."""

import inspect
import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from explainer.explained.batch import TokenBatch

EmbeddingEdit = Callable[[Tensor], Tensor]
Result = TypeVar("Result")


def model_inputs(model: nn.Module, batch: TokenBatch, positions: bool) -> dict[str, Any]:
    """The right-padded batch as the keyword arguments that this model's forward takes.

    Args:
        positions: give the positions 0, 1, 2 ..., so that tokens that are hidden keep theirs.
    """
    accepted = inspect.signature(model.forward).parameters
    attended = batch.attention_mask if batch.hidden is None else batch.attention_mask.masked_fill(batch.hidden, 0)
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": attended}
    if "use_cache" in accepted:
        # No key-value cache: nothing is generated, and recomputing a layer would append its keys a second time.
        inputs["use_cache"] = False
    if "position_ids" in accepted and positions:
        inputs["position_ids"] = batch.position_ids
    if "token_type_ids" in accepted and batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    return inputs


def in_order(edit: EmbeddingEdit | None, order: Tensor | None) -> EmbeddingEdit | None:
    """The edit of a batch's own columns as an edit of the right-padded ones."""
    if edit is None or order is None:
        return edit

    def moved(embeddings: Tensor) -> Tensor:
        padded = order[..., None].expand_as(embeddings)
        original = order.argsort(dim=1)[..., None].expand_as(embeddings)
        return edit(embeddings.gather(1, original)).gather(1, padded)

    return moved


def within(batch: TokenBatch, edit: EmbeddingEdit | None, sequence_first: bool) -> EmbeddingEdit | None:
    """The edit of a batch's embeddings, for models that embed the sequence first, or pad the batch further inside."""
    if edit is None or torch.compiler.is_exporting():
        return edit

    def of_batch(embeddings: Tensor) -> Tensor:
        own, rest = of_sequence(embeddings, batch, sequence_first)
        edited = edit(own) if rest is None else torch.cat([edit(own), rest], dim=1)
        return edited.transpose(0, 1) if sequence_first else edited

    return of_batch


def of_sequence(states: Tensor, batch: TokenBatch, sequence_first: bool) -> tuple[Tensor, Tensor | None]:
    """States (batch, seq, hidden) of a batch's own positions, and of those that the model added behind them, if any."""
    seq = batch.input_ids.shape[1]
    states = states.transpose(0, 1) if sequence_first else states
    return (states, None) if states.shape[1] == seq else (states[:, :seq], states[:, seq:])


def on_rows(edit: EmbeddingEdit | None, batch: TokenBatch, rows: TokenBatch) -> EmbeddingEdit | None:
    """The edit of a batch's embeddings as an edit of the rows that the model reads, several per text.

    All rows of a text begin with its tokens, whose edited embeddings they share.
    """
    if edit is None or rows is batch:
        return edit

    def of_rows(embeddings: Tensor) -> Tensor:
        n, seq = batch.input_ids.shape
        times = len(rows) // n
        own = edit(embeddings[::times, :seq]).repeat_interleave(times, dim=0)
        real = batch.attention_mask.bool().repeat_interleave(times, dim=0)[..., None]
        return torch.cat([torch.where(real, own, embeddings[:, :seq]), embeddings[:, seq:]], dim=1)

    return of_rows


@contextmanager
def edit_output(module: nn.Module, edit: EmbeddingEdit | None, call: int = 0) -> Iterator[None]:
    """Map the output of one call of the module inside the block (the first by default) by `edit`, if there is one."""
    if edit is None:
        yield
        return
    calls = itertools.count()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return no_leaf(edit(output)) if next(calls) == call else None

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def no_leaf(embeddings: Tensor) -> Tensor:
    """The embeddings, copied where they are a leaf of the graph: CTRL changes them in place, which a leaf forbids."""
    return embeddings.clone() if embeddings.is_leaf and embeddings.requires_grad else embeddings


def token_budgeted(lengths: Sequence[int], batch_tokens: int, kinds: Sequence[Hashable]) -> list[list[int]]:
    """Indices in batches of one kind and similar length: rows times longest row at most the budget, or one row."""
    batches: list[list[int]] = []
    open_batches: dict[Hashable, list[int]] = {}
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        batch = open_batches.get(kinds[i])
        if batch is not None and (len(batch) + 1) * lengths[batch[0]] <= batch_tokens:
            batch.append(i)
        else:
            open_batches[kinds[i]] = [i]
            batches.append(open_batches[kinds[i]])
    return batches


def fitted(
    batches: Sequence[list[int]],
    lengths: Sequence[int],
    run: Callable[[list[int]], Result],
    alone: Callable[[list[int]], Result],
) -> Iterator[tuple[list[int], Result]]:
    """Each batch and what `run` gives for it; a batch that does not fit into memory is halved and run again.

    Once a batch has not fitted, the later ones are at most half as large.

    Args:
        batches: indices.
        lengths: tokens of each sequence.
        run: called with the indices of a batch.
        alone: called for a sequence that does not fit by itself: the same with less memory.

    Raises:
        ValueError: when a sequence does not fit then either, naming its length.
    """
    waiting, most = list(reversed(batches)), math.inf
    while waiting:
        batch = waiting.pop()
        size, half = len(batch) * max(lengths[i] for i in batch), len(batch) // 2
        result = tried(run, batch) if size <= most or not half else None
        if result is not None:
            yield batch, result[0]
        elif half:
            most = min(most, size // 2)
            waiting += [batch[half:], batch[:half]]
        else:
            with memory_for(f"A sequence of {lengths[batch[0]]} tokens"):
                last = alone(batch)
            yield batch, last


def tried(run: Callable[[list[int]], Result], batch: list[int]) -> tuple[Result] | None:
    """What `run` gives; None where memory runs out."""
    try:
        return (run(batch),)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Only here are the error's frames gone, and the tensors that they hold.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in the main memory."""
    told = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in told
        or "can't allocate memory" in told
    )


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Name what was too large, and the way out, where memory runs out inside the block.

    Raises:
        ValueError: in place of the error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"{what} does not fit into memory by itself ({str(error).splitlines()[0]:.120}). Shorten it, load the "
            "model with `dtype=torch.bfloat16`, or take a method without gradients, such as `leave_one_out`. Methods "
            "that run several copies of a text at once need less with a smaller `batch_tokens`, and `attn_lrp` and "
            "`cp_lrp` with `checkpointing=True`."
        ) from error


def state_of(output: Any) -> Any:
    """The hidden state that a block hands on: its output, or the first part of it."""
    return output[0] if isinstance(output, tuple | list) else output


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
            states.append(state_of(output))

    with ExitStack() as hooks:
        hooks.callback(layers[0].register_forward_pre_hook(entering, with_kwargs=True).remove)
        for layer in layers:
            hooks.callback(layer.register_forward_hook(leaving).remove)
        yield states
