"""The prompts of a call, normalised: one or many, each with what is asked about its response."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, NamedTuple

from explainer.attributor.inputs import InputKind
from explainer.explained.prompt import Prompt
from explainer.explained.tasks.language_model import checked_messages

Answer = str | Sequence[int]
"""A response: its text, or its token ids."""

Span = tuple[int, int] | str
"""A part of a response: characters (start, end), or a substring that occurs once."""

TokenPart = int | tuple[int, int] | Literal["next"]
"""A token of a response by its number, a range of them, or the one that the model would say next."""

PROMPT_KEYS = ("prompt", "messages", "response", "span", "token", "foil")


@dataclass(frozen=True)
class ResponseInput:
    """One prompt, and what is asked about its response; the fields are explained at `ResponseAttributor.__call__`."""

    prompt: Prompt
    response: Answer | None = None
    span: Span | None = None
    token: TokenPart | None = None
    foil: Answer | None = None

    @classmethod
    def of(cls, item: Any, **otherwise: Any) -> "ResponseInput":
        """A prompt as a string, as messages, or as a mapping such as a row of a data set or a line of JSON.

        Args:
            item: a mapping has `prompt` or `messages`, and optionally `response`, `span`, `token`, `foil`.
            otherwise: these four where the mapping has none.

        Raises:
            ValueError: when one of them has a form that it cannot have.
        """
        own: dict[str, Any] = {}
        if isinstance(item, Mapping):
            own = {name: item[name] for name in PROMPT_KEYS[2:] if item.get(name) is not None}
            item = _prompt_of(item)
        asked = {**otherwise, **own}
        return cls(
            item if isinstance(item, str) else checked_messages(list(item) if isinstance(item, tuple) else item),
            _answer("response", asked.get("response")),
            _span(asked.get("span")),
            _token(asked.get("token")),
            _answer("foil", asked.get("foil")),
        )


def _prompt_of(row: Mapping[Any, Any]) -> Any:
    prompt, messages = row.get("prompt"), row.get("messages")
    if (prompt is None) == (messages is None):
        raise ValueError("a line needs a `prompt` or `messages`, one of the two.")
    if prompt is not None and not isinstance(prompt, str):
        raise ValueError(f"`prompt` must be a string, got {prompt!r:.60}.")
    if messages is not None and not isinstance(messages, list | tuple):
        raise ValueError(f"`messages` must be a list, got {messages!r:.60}.")
    return messages if prompt is None else prompt


def _answer(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str) or _is_numbers(value):
        return value
    raise ValueError(f"`{name}` must be a string or a list of token ids, got {value!r:.60}.")


def _span(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if not _is_numbers(value) or len(value) != 2:
        raise ValueError(f"`span` must be [start, end] or a substring of the response, got {value!r:.60}.")
    return tuple(value)


def _token(value: Any) -> Any:
    if value is None or value == "next" or type(value) is int:
        return value
    if not _is_numbers(value) or len(value) != 2:
        raise ValueError(f"`token` must be a number, (first, last + 1), or 'next', got {value!r:.60}.")
    return tuple(value)


class PromptInputs(NamedTuple):
    """The prompts of a call.

    Attributes:
        kind: one prompt, a list (or tuple) of prompts, or a stream: any other iterable.
        items: each prompt with what is asked about its response, read one by one.
    """

    kind: InputKind
    items: Iterator[ResponseInput]


def read_prompts(prompts: Any, kind: InputKind | None = None, **asked: Any) -> PromptInputs:
    """The prompts of a call, each with its response, span, token and foil.

    Args:
        kind: what the prompts are; by default what they look like.
        asked: `response`, `span`, `token` and `foil`. For a list of prompts, a list has one entry per prompt.

    Raises:
        TypeError: when `prompts` is neither a prompt nor an iterable.
        ValueError: when there are not as many entries as prompts. What is wrong with one prompt is raised when it is
            read, and names it by its number.
    """
    kind = prompt_kind(prompts) if kind is None else kind
    if kind == "one":
        return PromptInputs(kind, iter([ResponseInput.of(prompts, **asked)]))
    entries: dict[str, Iterable[Any]] = {}
    for name, value in asked.items():
        if isinstance(value, list) and kind == "stream":
            raise ValueError(
                f"`{name}` as a list has one entry per prompt of a list; in a stream, give mappings with `prompt` (or "
                f"`messages`) and `{name}`."
            )
        if isinstance(value, list) and len(value) != len(prompts):
            raise ValueError(f"`{name}` must have one entry per prompt ({len(prompts)}), got {len(value)}.")
        entries[name] = value if isinstance(value, list) else repeat(value)
    return PromptInputs(kind, _numbered(prompts, entries))


def prompt_kind(prompts: Any) -> InputKind:
    """Whether this is one prompt, a list (or tuple) of them, or any other iterable of them.

    >>> message = {"role": "user", "content": "Who?"}
    >>> prompt_kind("Who?"), prompt_kind([message]), prompt_kind([[message], "Who?"]), prompt_kind(iter(["Who?"]))
    ('one', 'one', 'list', 'stream')

    Raises:
        TypeError: when it is none of these.
    """
    if isinstance(prompts, str | Mapping):
        return "one"
    if isinstance(prompts, list | tuple):
        messages = len(prompts) > 0 and isinstance(prompts[0], Mapping) and not {"prompt", "messages"} & set(prompts[0])
        return "one" if messages else "list"
    if isinstance(prompts, Iterable):
        return "stream"
    raise TypeError(
        f"`prompts` must be a string, messages, a list of these or an iterable of these, got {type(prompts).__name__}."
    )


def _numbered(prompts: Iterable[Any], entries: Mapping[str, Iterable[Any]]) -> Iterator[ResponseInput]:
    iterators = {name: iter(values) for name, values in entries.items()}
    for i, prompt in enumerate(prompts):
        own = {name: next(values) for name, values in iterators.items()}
        try:
            yield ResponseInput.of(prompt, **own)
        except ValueError as error:
            raise ValueError(f"`prompts[{i}]`: {error}") from error


def _is_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(type(one) is int for one in value)
