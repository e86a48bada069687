"""A language model's prompt as it reads it: chat templates, where the contents are in it, and what is said next."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from explainer.explained.batch import Tokens, collate
from explainer.explained.model import ExplainedModel
from explainer.explained.passes import fitted, memory_for, token_budgeted
from explainer.explained.tasks.language_model import MARKS, checked_messages, start_token

Prompt = str | Sequence[Mapping[str, str]]
"""A string that the model continues, or messages (`role`, `content`) for the tokenizer's chat template."""


NEW_TOKENS = 128
"""The longest response that is generated, unless the caller says otherwise."""


@dataclass(frozen=True, eq=False)
class RenderedPrompt:
    """A prompt as the model reads it, and where the contents of its messages are in it."""

    explained: ExplainedModel
    prompt: Prompt
    whole: str
    contents: tuple[str, ...]
    starts: tuple[int, ...]  # where character 0 of each content would stand in `whole`
    spans: tuple[tuple[int, int], ...]  # the characters of `whole` that are each content's
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    words: tuple[int | None, ...]
    added: tuple[bool, ...]

    @classmethod
    def of(cls, explained: ExplainedModel, prompt: Prompt) -> "RenderedPrompt":
        tokenizer = explained.tokenizer
        contents: tuple[str, ...] = (prompt,) if isinstance(prompt, str) else ()
        starts: tuple[int, ...] = (0,)
        spans: tuple[tuple[int, int], ...] = ((0, len(prompt)),)
        if isinstance(prompt, str):
            whole = prompt
        else:
            messages = _checked(prompt)
            whole = _written(tokenizer, messages)
            contents = tuple(message["content"] for message in messages)
            found = [_found(tokenizer, messages, i, whole) for i in range(len(messages))]
            starts, spans = tuple(start for start, _ in found), tuple(place for _, place in found)
        encoding = tokenized(tokenizer, whole, specials=isinstance(prompt, str))
        added = [bool(one) for one in encoding["special_tokens_mask"]]
        n = len(added)
        seq2seq = is_seq2seq(explained)  # its encoder reads the prompt as a text of its own, the end token included
        # Elsewhere an end token would end what the response continues.
        while n and added[n - 1] and isinstance(prompt, str) and not seq2seq:
            n -= 1
        if n == 0 and not added:
            raise ValueError("`prompt` has no tokens: the model continues nothing.")
        n = n or len(added)
        limit = explained.text.max_tokens
        if limit is not None and n >= limit + seq2seq:
            more = "" if seq2seq else ", the response's included"
            raise ValueError(f"`prompt` has {n} tokens, and the model takes {limit}{more}: shorten it.")
        return cls(
            explained,
            prompt,
            whole,
            contents,
            starts,
            spans,
            tuple(encoding["input_ids"][:n]),
            tuple((int(start), int(end)) for start, end in encoding["offset_mapping"][:n]),
            tuple(encoding.word_ids(0)[:n]),
            tuple(added[:n]),
        )

    def generated(
        self, settings: Mapping[str, Any], after: Sequence[int] = (), keep_end: bool = False
    ) -> tuple[int, ...]:
        """The tokens that the model says after the prompt, without its end token."""
        limit = self.explained.text.max_tokens
        context = [*after] if is_seq2seq(self.explained) else [*self.ids, *after]
        if limit is not None:
            room = limit - len(context)
            if room < 1:
                raise ValueError(f"`prompt` and `response` have {len(context)} tokens, and the model takes {limit}.")
            settings = {**settings, "max_new_tokens": min(room, settings["max_new_tokens"])}
        with memory_for(f"`prompt` of {len(context)} tokens, with its response,"):
            (said,) = continued(self.explained, [list(self.ids)], settings, after)
        kept = said if keep_end else before_end(self.explained, said)
        if not kept:
            shown = self.explained.tokenizer.convert_ids_to_tokens(list(said))
            raise ValueError(f"The model's response is empty, its tokens are {shown}: give a `response`.")
        return kept

    def ids_of(self, response: str | Sequence[int], name: str) -> tuple[int, ...]:
        """The tokens of a response in its place after the prompt; given ids stay as they are."""
        tokenizer = self.explained.tokenizer
        if not isinstance(response, str):
            ids = tuple(int(token) for token in response)
            if unknown := [token for token in ids if not 0 <= token < self.explained.embedding.num_embeddings]:
                raise ValueError(f"`{name}` has the token id {unknown[0]}, which is not of the model's vocabulary.")
        elif is_seq2seq(self.explained):
            ids = tuple(response_tokens(tokenizer, response)["input_ids"])
        else:
            both = tokenized(tokenizer, self.whole + response, specials=isinstance(self.prompt, str))
            n = len(both["input_ids"])
            while n and both["special_tokens_mask"][n - 1] and isinstance(self.prompt, str) and n > len(self.ids):
                n -= 1
            own = tuple(both["input_ids"][:n])
            if own[: len(self.ids)] != self.ids:
                same = next(i for i, token in enumerate(self.ids) if own[i : i + 1] != (token,))
                joined, alone = (tokenizer.convert_ids_to_tokens(list(t[same:][:8])) for t in (own, self.ids))
                raise ValueError(
                    f"`{name}` {response[:40]!r} joins the end of the prompt: its tokens {alone} become {joined}. A "
                    "space between them belongs to the response, not to the prompt; or give the response as token ids."
                )
            ids = own[len(self.ids) :]
        if not ids:
            raise ValueError(f"`{name}` is empty, {response!r}: it has no token to explain.")
        limit = self.explained.text.max_tokens
        if limit is not None and is_seq2seq(self.explained) and len(ids) > limit:
            raise ValueError(f"`{name}` has {len(ids)} tokens, and the model's decoder takes {limit}: shorten it.")
        if limit is not None and not is_seq2seq(self.explained) and len(self.ids) + len(ids) > limit:
            raise ValueError(
                f"`prompt` has {len(self.ids)} tokens and `{name}` {len(ids)}, and the model takes {limit} together."
            )
        return ids


def generate_responses(
    explained: ExplainedModel, prompts: Sequence[Prompt], generate: Mapping[str, Any] | None = None
) -> list[tuple[int, ...]]:
    """The tokens that the model answers to each of several prompts, generated in batches; () where it says nothing.

    Args:
        generate: settings of transformers' `generate`; by default it is greedy, of 128 tokens at most.

    Raises:
        ValueError: when a prompt cannot be written.
    """
    settings = {"max_new_tokens": NEW_TOKENS, **(generate or {})}
    rendered = [RenderedPrompt.of(explained, prompt) for prompt in prompts]
    more, limit = int(settings["max_new_tokens"]), explained.text.max_tokens
    if is_seq2seq(explained):  # prompt and response share no positions
        settings, limit = {**settings, "max_new_tokens": min(more, limit or more)}, None
    responses: list[tuple[int, ...]] = [()] * len(prompts)
    lengths = [len(one.ids) + more for one in rendered]
    full = [limit is not None and length > limit for length in lengths]  # these have less room than the others

    def run(chunk: list[int]) -> list[tuple[int, ...]]:
        if full[chunk[0]]:
            room = int(limit or 0) - len(rendered[chunk[0]].ids)
            return continued(explained, [list(rendered[chunk[0]].ids)], {**settings, "max_new_tokens": room})
        return continued(explained, [list(rendered[i].ids) for i in chunk], settings)

    kinds = [i if full[i] else -1 for i in range(len(prompts))]
    for chunk, made in fitted(token_budgeted(lengths, explained.batch_tokens, kinds), lengths, run, run):
        for i, said in zip(chunk, made, strict=True):
            responses[i] = before_end(explained, said)
    return responses


@torch.no_grad()
def continued(
    explained: ExplainedModel, contexts: Sequence[list[int]], settings: Mapping[str, Any], begun: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """What the model says after each context, its end token and what is behind it included.

    Args:
        begun: tokens with which the response begins.
    """
    model, tokenizer = explained.model, explained.tokenizer
    seq2seq = is_seq2seq(explained)
    rows = [Tokens(torch.tensor(ids if seq2seq else [*ids, *begun])) for ids in contexts]
    batch = collate(rows, pad_token_id=tokenizer.pad_token_id, side="right" if seq2seq else "left")
    batch = batch.to(explained.device)
    if seq2seq:
        start = torch.tensor([[start_token(explained.model), *begun]] * len(rows), device=explained.device)
        settings = {**settings, "decoder_input_ids": start}
    first = 1 + len(begun) if seq2seq else batch.input_ids.shape[1]
    made = model.generate(  # type: ignore[operator]
        batch.input_ids,
        attention_mask=batch.attention_mask,
        **{"do_sample": False, "num_beams": 1, "pad_token_id": tokenizer.pad_token_id, **settings},
    )
    return [tuple(said) for said in made[:, first:].tolist()]


def is_seq2seq(explained: ExplainedModel) -> bool:
    """Whether an encoder reads the prompt, and a decoder the response."""
    return bool(explained.model.config.is_encoder_decoder)


def response_tokens(tokenizer: PreTrainedTokenizerBase, response: str) -> dict[str, list[Any]]:
    """`input_ids` and `offset_mapping` of a response that a decoder reads, without the end token."""
    encoding = tokenized(tokenizer, response, specials=True)
    n = len(encoding["input_ids"])
    while n and encoding["input_ids"][n - 1] == tokenizer.eos_token_id and encoding["special_tokens_mask"][n - 1]:
        n -= 1
    return {name: list(encoding[name][:n]) for name in ("input_ids", "offset_mapping")}


def before_end(explained: ExplainedModel, said: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens before the first one that ends a response."""
    config = explained.model.generation_config
    stated = config.eos_token_id if config is not None else None  # type: ignore[union-attr]
    ends = {*(stated if isinstance(stated, list) else [stated]), explained.tokenizer.eos_token_id}
    return tuple(itertools.takewhile(lambda token: token not in ends, said))


def _checked(messages: Any) -> list[dict[str, str]]:
    checked = checked_messages(list(messages) if isinstance(messages, Sequence) else messages)
    if any(mark in message["content"] for message in checked for mark in MARKS):
        raise ValueError("`messages` hold a private character (U+E000 or U+E001), which marks where a content is.")
    return checked


def _written(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """The messages by the tokenizer's chat template, up to where the response begins."""
    if not tokenizer.chat_template:
        raise ValueError(
            f"`messages` need a tokenizer with a chat template, and {type(tokenizer).__name__} has none: give a "
            "`prompt` string instead."
        )
    begun = messages[-1]["role"] == "assistant"
    how: dict[str, Any] = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **how))
    except Exception as error:  # a template raises errors of its own, and those of jinja2
        roles = [message["role"] for message in messages]
        raise ValueError(
            f"The chat template of the tokenizer refuses the `messages`, whose roles are {roles}: {error}"
        ) from error


def _found(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], i: int, whole: str
) -> tuple[int, tuple[int, int]]:
    """Where the content of message `i` begins in the written messages, and the characters of it that are there.

    The template writes the message once more between two marks; templates that trim contents get a trimmed one.
    """
    content = messages[i]["content"]
    for candidate in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
        marked = list(messages)
        marked[i] = {**messages[i], "content": f"{MARKS[0]}{candidate}{MARKS[1]}"}
        text = _written(tokenizer, marked)
        if all(text.count(mark) == 1 for mark in MARKS) and _without_marks(text) == whole:
            start, end = text.index(MARKS[0]), text.index(MARKS[1]) - 1
            if whole[start:end] == candidate:
                return start - content.index(candidate), (start, end)
    raise ValueError(
        f"The chat template of the tokenizer does not write the content of `messages[{i}]` as it is, once: "
        f"{content!r:.80} in {whole!r:.400}. Give a `prompt` string instead."
    )


def _without_marks(text: str) -> str:
    return text.replace(MARKS[0], "").replace(MARKS[1], "")


def tokenized(tokenizer: PreTrainedTokenizerBase, text: str, specials: bool) -> Any:
    return tokenizer(
        text,
        add_special_tokens=specials,  # a chat template writes its own
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of some tokens, and the characters of each; a piece of a character has that character."""
    texts = [_text(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    whole = texts[-1]
    reached = [_common(text, whole) for text in texts]
    offsets = []
    for before, after, text in zip(reached, reached[1:], texts[1:], strict=False):
        partial = after < len(text) and after < len(whole)  # what is shown behind is no character of the whole yet
        end = after + 1 if partial else after
        offsets.append((min(before, end), end))
    return whole, tuple(offsets)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _common(one: str, other: str) -> int:
    """The number of characters with which both begin."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))
