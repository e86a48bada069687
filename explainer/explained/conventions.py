"""What a model and its tokenizer take for granted: padding, positions, length, what may share a batch.

Families differ here in ways that no configuration tells: where positions begin, whether padding is masked, whether a
layer is called once. So the model is asked: it reads a few short texts when it is loaded, and what it does is recorded.
"""

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import TokenBatch, Tokens, collate
from explainer.explained.passes import state_of
from explainer.explained.text import TextEncoder

PROBES = (
    "It is good.",
    "This film was not a bad one, but the plot was very dull and the end of it was worse than that.",
)
"""Texts of different length that a model reads when it is loaded."""

LONG_PROBE = 1024
"""Tokens, at most, of the probe of models that are not on transformers' attention interface."""


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a padding token one, and the model's configuration the same, for its pooling."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if model.config.get_text_config().pad_token_id != tokenizer.pad_token_id:
        raise ValueError(
            f"`tokenizer` pads with id {tokenizer.pad_token_id}, the model takes "
            f"{model.config.get_text_config().pad_token_id} for padding. They do not belong together."
        )


def configured_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The longest input in tokens that configuration and tokenizer name; None when neither has a limit."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    # XLNet's -1 and the tokenizers' 10**30 mean that there is none.
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit is not None and 0 < limit < 10**6]
    return min(limits) if limits else None


def baseline_token_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, token: str | None) -> int:
    """The id of the token that stands for an absent one.

    Raises:
        ValueError: when `token` is no single token, or is the padding of a decoder classifier, whose pooled
            position would move with it.
    """
    # Only models that pool at the last token that is not padding are sensitive to PAD inside the text.
    pools_last = hasattr(model, "score") and not model.config.is_encoder_decoder
    pad = tokenizer.pad_token_id
    if token is not None:
        found = tokenizer.convert_tokens_to_ids(token)
        if not isinstance(found, int) or (found == tokenizer.unk_token_id and token != tokenizer.unk_token):
            raise ValueError(f"`baseline_token` {token!r} is not one token of this tokenizer's vocabulary.")
        if pools_last and found == pad:
            raise ValueError(
                f"`baseline_token` {token!r} is the padding token: a decoder classifier pools at the last token "
                "that is not padding, so it would move. Choose another."
            )
        return found
    candidates = [tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]
    space = tokenizer.encode(" ", add_special_tokens=False)
    for candidate in [*candidates, *(space if len(space) == 1 else [])]:
        if candidate is not None and not (pools_last and candidate == pad):
            return candidate
    raise ValueError("This tokenizer has no token to stand for 'absent'. Name one by `baseline_token`.")


def accepts(model: nn.Module, argument: str) -> bool:
    """Whether the model's forward pass has this argument."""
    return argument in inspect.signature(model.forward).parameters


def own_inputs(model: nn.Module, tokens: Tokens, device: torch.device) -> dict[str, Any]:
    """One text as its tokenizer gives it to the model, without anything that this package adds."""
    inputs = {"input_ids": tokens.input_ids, "attention_mask": torch.ones_like(tokens.input_ids)}
    if tokens.token_type_ids is not None and accepts(model, "token_type_ids"):
        inputs["token_type_ids"] = tokens.token_type_ids
    return {name: value[None].to(device) for name, value in inputs.items()}


def read_alone(model: PreTrainedModel, tokens: Tokens, **more: Any) -> Any:
    """The model's own output for one text.

    Raises:
        ValueError: when it cannot read it.
    """
    try:
        return model(**own_inputs(model, tokens, model.device), **more)
    except Exception as error:  # each family has its own
        raise ValueError(
            f"`model` {type(model).__name__} cannot read a text by itself: {type(error).__name__}: {error}"
        ) from error


@torch.no_grad()
def text_encoder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: nn.Embedding,
    inputs: Callable[[TokenBatch], dict[str, Any]] = lambda batch: {},
) -> TextEncoder:
    """The tokenizer with the length that the model takes: that of its tables of positions, where it has any.

    Args:
        words: the table of the word embeddings.
        inputs: further arguments of the forward pass for a batch.
    """
    encoder = TextEncoder(tokenizer, configured_limit(model, tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a probe that is longer than the model
        tokens = encoder.encode(PROBES[-1:])[0].tokens
    with PositionTables(words, len(tokens)) as tables, AttentionTypes(model).kept():
        batch = collate([tokens], pad_token_id=int(tokens.input_ids[0]))
        read_alone(model, tokens, **inputs(batch.to(model.device)))
    if tables.limit is not None:
        encoder.max_tokens = min(tables.limit, encoder.max_tokens or tables.limit)
    return encoder


class PositionTables(TorchDispatchMode):
    """Watches the look-ups of one text's pass for tables of positions: their rows are read one after the other.

    Attributes:
        limit: the longest text for which every such table has rows; None where there is no table.
    """

    def __init__(self, words: nn.Embedding, n_tokens: int) -> None:
        super().__init__()
        self.limit: int | None = None
        self._words, self._n_tokens = words.weight.data_ptr(), n_tokens

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default and args[0].data_ptr() != self._words:
            # Models that pad the text inside read further rows after those of the text.
            rows = args[1].flatten()[: self._n_tokens]
            if len(rows) == self._n_tokens > 1 and bool((rows.diff() == 1).all()):
                self.limit = min(len(args[0]) - int(rows[0]), self.limit or len(args[0]))
        return func(*args, **kwargs or {})


@contextmanager
def chained_blocks(lists: Sequence[list[nn.Module]]) -> Iterator[Callable[[], Iterator[list[nn.Module]]]]:
    """After the pass inside: those of the lists whose modules ran in order, each once and on what the last one gave."""
    calls: list[list[tuple[nn.Module, Any, Any]]] = [[] for _ in lists]

    def called(of_list: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls[of_list].append((block, args[0] if args else kwargs.get("hidden_states"), state_of(output)))

    def chained() -> Iterator[list[nn.Module]]:
        for blocks, of_list in zip(lists, calls, strict=True):
            passed_on = itertools.pairwise(of_list)
            if [block for block, _, _ in of_list] == blocks and all(a[2] is b[1] for a, b in passed_on):
                yield blocks

    with ExitStack() as hooks:
        for of_list, blocks in enumerate(lists):
            for block in blocks:
                hooks.callback(block.register_forward_hook(partial(called, of_list), with_kwargs=True).remove)
        yield chained


@contextmanager
def output_shapes(module: nn.Module) -> Iterator[list[torch.Size]]:
    """The shapes of what the module gives inside the block."""
    shapes: list[torch.Size] = []
    hook = module.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    try:
        yield shapes
    finally:
        hook.remove()


def read_positions(block: nn.Module, answer: Callable[[], Tensor]) -> list[int]:
    """The positions of one text at which the answer reads the states that this block gives."""
    states: list[Tensor] = []

    def as_leaf(block: nn.Module, inputs: Any, output: Any) -> Any:
        states.append(state_of(output).detach().requires_grad_())
        return type(output)([states[0], *output[1:]]) if isinstance(output, tuple | list) else states[0]

    hook = block.register_forward_hook(as_leaf)
    try:
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(answer().square().sum(), states)
    finally:
        hook.remove()
    size = slope.abs().sum(dim=-1)[0]
    return (size > 1e-6 * size.max()).nonzero()[:, 0].tolist()


def close(values: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether two answers of a model in this precision differ by rounding only."""
    exist = expected != -torch.inf  # of a choice that a text does not have
    if not torch.equal(values != -torch.inf, exist):
        return False
    values, expected = values[exist], expected[exist]
    if not bool(expected.isfinite().all()):
        return False
    share = 0.05 if dtype in (torch.float16, torch.bfloat16) else 1e-3
    return bool((values - expected).abs().max() <= share * expected.abs().max() + 1e-5)


class AttentionTypes:
    """BigBird gives up its sparse attention for good when it reads a short text; `kept` restores it after a pass."""

    def __init__(self, model: nn.Module) -> None:
        self._switching = [module for module in model.modules() if hasattr(module, "set_attention_type")]
        self._loaded = [vars(module).get("attention_type") for module in self._switching]

    def __bool__(self) -> bool:
        return bool(self._switching)

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        finally:
            for module, loaded in zip(self._switching, self._loaded, strict=True):
                if loaded is not None:
                    cast(Any, module).set_attention_type(loaded)
