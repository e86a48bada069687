"""Prompted classification: a language model is asked about a text, and answers by one of several label words.

The prompt is data, of a file or a dictionary:

    template: "Review: {text}\\nSentiment:"     or    messages: [{role: user, content: "... {text} ..."}]
    labels: {negative: " negative", positive: " positive"}      # label: its word, one token after the prompt
    shots: [{text: A gem., label: positive}]                    # optional examples
    calibration: none                                           # or content_free, or {label: number}

The logits are those of the label words: of a causal model at the last position, of an encoder-decoder at the first
position of its decoder. Calibration subtracts a constant from each label's logit. By `content_free` it is ln of the
mean probability of that label's word, among the label words, for inputs that say nothing (Zhao et al., "Calibrate
Before Use", ICML 2021).
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
import yaml
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch
from explainer.explained.readout import Readout, precise
from explainer.explained.tasks.base import AbstractTask
from explainer.explained.tasks.language_model import (
    MARKS,
    auto_model_of,
    checked_messages,
    gathered,
    head_at,
    last_position,
    start_token,
)
from explainer.explained.text import TextEncoder

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Inputs that say nothing, as in the paper."""

Frame = tuple[str | int, ...]
"""The prompt as strings, and 0 and 1 where the text and the second text stand."""

_PLACES = ("{text}", "{text_pair}")
_KEYS = ("template", "messages", "labels", "shots", "calibration")


@dataclass(frozen=True)
class PromptedClassification(AbstractTask):
    """A language model that is asked for one of several label words; made by `PromptedClassification.of(prompt)`.

    Args:
        prompt: template or messages, labels, shots and calibration.
        frame: the prompt as it was rendered, by the chat template of the tokenizer where there are messages. An export
            keeps it: a template may write today's date.
        constants: subtracted from the logits, by label; an export keeps those that were measured.
        ids: of the label words.
        decoder_start: the first token of the decoder of an encoder-decoder.
    """

    name: ClassVar[str] = "prompted"
    auto_model: ClassVar[Any] = AutoModelForCausalLM
    frames_text: ClassVar[bool] = True
    prompt: Mapping[str, Any]
    frame: Frame = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    ids: tuple[int, ...] = ()
    decoder_start: int | None = None

    @classmethod
    def of(cls, prompt: Mapping[str, Any] | str | Path) -> "PromptedClassification":
        """The task of a prompt: a dictionary, or the path of a YAML file that holds one.

        Raises:
            ValueError: when the file cannot be read, or the prompt is none.
        """
        values = _read(Path(prompt)) if isinstance(prompt, str | Path) else prompt
        return cls(_checked(values))

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "PromptedClassification":
        """The task of the `settings` that an export holds.

        Raises:
            ValueError: when they are of no such task.
        """
        if not isinstance(settings.get("prompt"), dict):
            raise ValueError(f"The task's `prompt` is missing from its settings: {dict(settings)!r:.200}.")
        task = cls.of(settings["prompt"])
        frame, constants = settings.get("frame"), settings.get("constants")
        if not isinstance(frame, list) or sorted(p for p in frame if not isinstance(p, str)) != task._places:
            raise ValueError(f"The task's `frame` must be the prompt's strings and the places of texts, got {frame!r}.")
        numbers: Any = constants
        if constants != {} or task.prompt["calibration"] != "none":
            _check_constants("constants", constants, task.labels)
        return replace(task, frame=tuple(frame), constants=numbers)

    @property
    def labels(self) -> list[str]:
        return list(self.prompt["labels"])

    @property
    def settings(self) -> dict[str, Any]:
        more = {"prompt": dict(self.prompt), "frame": list(self.frame), "constants": dict(self.constants)}
        return {**super().settings, **more}

    @property
    def wants_pair(self) -> bool:
        return 1 in self._places

    @property
    def _places(self) -> list[int]:
        """Which texts the prompt has a place for."""
        whole = self._query
        return [i for i, place in enumerate(_PLACES) if place in whole]

    @property
    def _query(self) -> str:
        messages = self.prompt["messages"]
        return self.prompt["template"] if messages is None else "".join(message["content"] for message in messages)

    def auto_model_of(self, config: Mapping[str, Any]) -> Any:
        return auto_model_of(config)

    # At a model

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "PromptedClassification":
        if model.get_output_embeddings() is None:
            raise ValueError(
                f"`model` {type(model).__name__} has no language model head, and a prompt is answered by words."
            )
        task = replace(self, frame=self.frame or self._rendered(tokenizer), decoder_start=start_token(model))
        return replace(task, ids=task._word_ids(tokenizer))

    def measured(self, ask: Callable[[str], Readout]) -> "PromptedClassification":
        calibration = self.prompt["calibration"]
        if self.constants or calibration == "none":
            return self
        if calibration == "content_free":
            shares = torch.stack([ask(text).logits[0, 0].double().softmax(dim=-1) for text in CONTENT_FREE])
            calibration = dict(zip(self.labels, shares.mean(dim=0).log().tolist(), strict=True))
        return replace(self, constants={label: round(float(calibration[label]), 6) for label in self.labels})

    def _rendered(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """The prompt as the model reads it, cut at the places of the texts.

        Raises:
            ValueError: when the tokenizer has no chat template, or its template refuses or changes the messages.
        """
        if self.prompt["messages"] is None:
            shots = [_filled(self.prompt["template"], shot) + self._word(shot) for shot in self.prompt["shots"]]
            before = "".join(f"{shot}\n\n" for shot in shots)
            return _parts([before, *re.split(r"(\{text\}|\{text_pair\})", self.prompt["template"])], _PLACES)
        if not tokenizer.chat_template:
            raise ValueError(
                f"`messages` need a tokenizer with a chat template, and {type(tokenizer).__name__} has none: give a "
                "`template` instead."
            )
        messages = self._conversation()
        continues = messages[-1]["role"] == "assistant"
        how: dict[str, Any] = {"continue_final_message": True} if continues else {"add_generation_prompt": True}
        try:
            text = str(tokenizer.apply_chat_template(messages, tokenize=False, **how))
        except Exception as error:  # a template raises errors of its own, and those of jinja2
            roles = [message["role"] for message in messages]
            raise ValueError(
                f"The chat template of the tokenizer refuses the `messages`, whose roles are {roles}: {error}"
            ) from error
        for place, mark in enumerate(MARKS):
            if text.count(mark) != self._places.count(place):
                raise ValueError(
                    f"The chat template of the tokenizer writes `{_PLACES[place]}` {text.count(mark)} times: {text!r}"
                )
        return _parts(re.split(f"({'|'.join(MARKS)})", text), MARKS)

    def _conversation(self) -> list[dict[str, str]]:
        """The messages: what comes before the text's own once, then each shot with its answer, then the question."""
        messages = self.prompt["messages"]
        system = [message for message in messages if message["role"] == "system"]
        turns = [message for message in messages if message["role"] != "system"]
        shown: list[dict[str, str]] = list(system)
        for shot in self.prompt["shots"]:
            *filled, last = [{**turn, "content": _filled(turn["content"], shot)} for turn in turns]
            if last["role"] == "assistant":  # its answer has begun
                shown += [*filled, {**last, "content": last["content"] + self._word(shot)}]
            else:
                shown += [*filled, last, {"role": "assistant", "content": self._word(shot)}]
        marked = dict(zip(("text", "text_pair"), MARKS, strict=True))
        return [*shown, *({**turn, "content": _filled(turn["content"], marked)} for turn in turns)]

    def _word(self, shot: Mapping[str, str]) -> str:
        return self.prompt["labels"][shot["label"]]

    def _word_ids(self, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
        """The token of each label's word in its place.

        Raises:
            ValueError: when a word is several tokens, joins the prompt's last one, is unknown, or two are the same.
        """
        found: dict[int, str] = {}
        for label, word in self.prompt["labels"].items():
            own = self._in_place(tokenizer, word)
            if len(own) != 1:
                bare = word.strip()
                others = [other for other in (bare, f" {bare}") if other != word]
                better = [other for other in others if len(self._in_place(tokenizer, other)) == 1]
                hint = f"; {better[0]!r} is one" if better else ""
                raise ValueError(
                    f"`labels`: the word {word!r} of {label!r} must be one token after the prompt, and is "
                    f"{len(own)}: {tokenizer.convert_ids_to_tokens(own)}{hint}."
                )
            (token,) = own
            shown = tokenizer.convert_ids_to_tokens(token)
            if token == tokenizer.unk_token_id and word.strip() != tokenizer.unk_token:
                raise ValueError(f"`labels`: the word {word!r} of {label!r} is not in the vocabulary: it is {shown!r}.")
            if token in found:
                raise ValueError(
                    f"`labels`: the words of {found[token]!r} and {label!r} are the same token, {shown!r}."
                )
            found[token] = label
        return tuple(found)

    def _in_place(self, tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
        """The tokens of a word where it stands: after the prompt, or alone in the decoder of an encoder-decoder.

        Raises:
            ValueError: when it joins the prompt's last token.
        """
        if self.decoder_start is not None:
            return list(tokenizer(word, add_special_tokens=False)["input_ids"])
        encoder, pair = TextEncoder(tokenizer, None), ["good"] if self.wants_pair else None
        before, after = (
            self._framed(encoder, [*self.frame, end], ["good"], pair)[0].tokens.input_ids.tolist() for end in ("", word)
        )
        if after[: len(before)] != before:
            same = next(i for i, pair in enumerate(zip(before, [*after, None], strict=False)) if pair[0] != pair[1])
            joined, own = (tokenizer.convert_ids_to_tokens(tokens[same:]) for tokens in (after, before))
            raise ValueError(
                f"`labels`: the word {word!r} joins the end of the prompt: {own} becomes {joined}. A space between "
                "them belongs to the word, not to the prompt."
            )
        return after[len(before) :]

    # Texts

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        return self._framed(encoder, self.frame, texts, text_pairs)

    def _framed(
        self,
        encoder: TextEncoder,
        frame: Sequence[str | int],
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
    ) -> list[EncodedText]:
        return encoder.encode_framed(
            frame,
            texts,
            text_pairs,
            add_special_tokens=self.prompt["messages"] is None,  # a chat template writes its own
            ends_with_frame=self.decoder_start is None,
        )

    # Passes

    def inputs(self, batch: TokenBatch) -> dict[str, Any]:
        if self.decoder_start is None:
            return {}
        return {"decoder_input_ids": torch.full_like(batch.input_ids[:, :1], self.decoder_start)}

    @contextmanager
    def reading(self, model: nn.Module, batch: TokenBatch) -> Iterator[None]:
        """Give the head the states of the answer's position alone: no (batch, seq, vocabulary) array is made."""
        if self.decoder_start is not None:
            yield
            return
        with head_at(model, last_position(batch)):
            yield

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        logits = output.logits
        if logits.shape[1] > 1:  # of a pass outside of `reading`
            logits = gathered(logits, last_position(batch))
        words = precise(logits[:, 0, list(self.ids)])
        if self.constants:
            words = words - words.new_tensor([self.constants[label] for label in self.labels])
        return Readout(words[:, None], self.link)

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        if self.decoder_start is not None:
            return torch.ones_like(batch.input_ids[:, :1], dtype=torch.float32)
        return F.one_hot(last_position(batch)[:, 0], batch.input_ids.shape[1]).float()


def _parts(pieces: Sequence[str], places: Sequence[str]) -> Frame:
    """Strings as they follow each other, the places of texts by their numbers."""
    return tuple(places.index(piece) if piece in places else piece for piece in pieces if piece)


def _filled(template: str, texts: Mapping[str, str]) -> str:
    """The template with texts in its places; other braces are characters like any."""
    return re.sub(r"\{(text|text_pair)\}", lambda place: texts[place[1]], template)


# The prompt as data


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`prompt` {str(path)!r} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"`prompt` {str(path)!r} is no YAML: {error}") from error


def _checked(prompt: Any) -> dict[str, Any]:
    """The prompt with an entry for each key, after every one was found to be what it must be."""
    if not isinstance(prompt, Mapping):
        raise ValueError(f"`prompt` must be a mapping with {', '.join(_KEYS)}, got {prompt!r:.80}.")
    if unknown := [key for key in prompt if key not in _KEYS]:
        raise ValueError(f"`prompt` has no entry {unknown[0]!r:.60}; its entries are {', '.join(_KEYS)}.")
    template, messages = prompt.get("template"), prompt.get("messages")
    if (template is None) == (messages is None):
        raise ValueError("`prompt` needs a `template` or `messages`, one of the two.")
    if messages is not None:
        messages = checked_messages(messages)
    elif not isinstance(template, str):
        raise ValueError(f"`template` must be a string, got {template!r:.80}.")
    whole = str(template) if messages is None else "".join(message["content"] for message in messages)
    name = "template" if messages is None else "messages"
    if whole.count("{text}") != 1 or whole.count("{text_pair}") > 1:
        raise ValueError(
            f"`{name}` must have the place of the text, `{{text}}`, once (and `{{text_pair}}` once at most), got "
            f"{whole!r:.200}."
        )
    if any(mark in whole for mark in MARKS):
        raise ValueError(f"`{name}` holds a private character (U+E000 or U+E001), which marks the text's place.")
    labels = _labels(prompt.get("labels"))
    return {
        "template": template,
        "messages": messages,
        "labels": labels,
        "shots": _shots(prompt.get("shots"), labels, "{text_pair}" in whole),
        "calibration": _calibration(prompt.get("calibration"), list(labels)),
    }


def _labels(labels: Any) -> dict[str, str]:
    if not isinstance(labels, Mapping) or len(labels) < 2:
        raise ValueError(f"`labels` must map two labels or more to their words, got {labels!r:.120}.")
    for label, word in labels.items():
        if isinstance(label, bool) or not isinstance(label, str | int) or not str(label):
            raise ValueError(
                f"`labels`: a label must be a string, got {label!r:.60} (YAML reads yes and no as "
                "booleans: quote them)."
            )
        if not isinstance(word, str) or not word.strip():
            raise ValueError(
                f"`labels`: the word of {label!r} must be a string, got {word!r:.60} (YAML reads yes and no as "
                "booleans, and digits as numbers: quote them)."
            )
    words = list(labels.values())
    if same := [word for word in words if words.count(word) > 1]:
        of = [str(label) for label, word in labels.items() if word == same[0]]
        raise ValueError(f"`labels`: {' and '.join(map(repr, of))} have the same word, {same[0]!r}.")
    return {str(label): word for label, word in labels.items()}


def _shots(shots: Any, labels: Mapping[str, str], pair: bool) -> list[dict[str, str]]:
    if shots is None:
        return []
    keys = {"text", "label"} | ({"text_pair"} if pair else set())
    if not isinstance(shots, list):
        raise ValueError(f"`shots` must be a list of mappings with {', '.join(sorted(keys))}, got {shots!r:.80}.")
    checked = []
    for shot in shots:
        if not isinstance(shot, Mapping) or set(shot) != keys:
            raise ValueError(f"Each of `shots` must have {', '.join(sorted(keys))}, got {shot!r:.120}.")
        one = {name: str(value) if name == "label" else value for name, value in shot.items()}
        if not all(isinstance(value, str) for value in one.values()):
            raise ValueError(f"The texts of `shots` must be strings, got {shot!r:.120}.")
        if one["label"] not in labels:
            raise ValueError(f"`shots`: {one['label']!r} is none of the labels {list(labels)}.")
        checked.append(one)
    return checked


def _calibration(calibration: Any, labels: list[str]) -> Any:
    if calibration is None or calibration in ("none", "content_free"):
        return calibration or "none"
    if not isinstance(calibration, Mapping):
        raise ValueError(
            f"`calibration` must be none, content_free, or a number for each of {labels}, got {calibration!r:.80}."
        )
    numbers = {str(label): number for label, number in calibration.items()}
    _check_constants("calibration", numbers, labels)
    return {label: float(numbers[label]) for label in labels}


def _check_constants(name: str, numbers: Any, labels: list[str]) -> None:
    is_number = lambda value: type(value) in (int, float) and math.isfinite(value)  # noqa: E731
    if not isinstance(numbers, Mapping) or set(numbers) != set(labels) or not all(map(is_number, numbers.values())):
        raise ValueError(f"`{name}` must have a number for each of the labels {labels}, got {numbers!r:.120}.")
