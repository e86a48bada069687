"""The attributor of responses: prompts in, explanations of what a language model says to them out, by any method."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import torch

from explainer.attributor.base import AbstractAttributor, loaded
from explainer.attributor.locking import model_lock
from explainer.attributor.response_inputs import Answer, ResponseInput, Span, TokenPart, read_prompts
from explainer.attributor.response_trust import response_trusts
from explainer.explained import ExplainedModel, ExplainedResponse, Response, Source, explain_response, sources_of
from explainer.explained.pretrained import DeviceMap
from explainer.explained.prompt import Prompt
from explainer.explained.readout import Score
from explainer.explained.sources import Sources
from explainer.explainers.folder import load_folder
from explainer.explanation import ResponseExplanation
from explainer.methods.base import AbstractMethod
from explainer.methods.responses import explain_responses
from explainer.methods.trained.amortized import Amortized

CHUNK = 32
"""The prompts of a stream that are explained at once."""


class ResponseSettings(TypedDict, total=False):
    """Keyword arguments of a call that are one for all prompts."""

    score: Score | None
    sources: Sources
    trust: bool
    generate: Mapping[str, Any] | None
    progress: bool


@dataclass(frozen=True)
class ResponseOptions:
    """What a call asks of every response; the fields are explained at `ResponseAttributor.__call__`."""

    score: Score | None = None
    sources: Sources = "token"
    trust: bool = False
    generate: Mapping[str, Any] | None = None
    progress: bool = False


class ResponseAttributor(AbstractAttributor):
    """A language model and the method that explains what it says.

    >>> attributor = ResponseAttributor.of("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
    >>> attributor([{"role": "user", "content": "Ben has a red car. What has Ben?"}]).show()  # doctest: +SKIP

    Threads may share an attributor, as they may an `Attributor`: one call at a time runs on a model.

    Raises:
        ValueError: when the explained model has another task than `Response`.
    """

    def __init__(self, explained: ExplainedModel, method: AbstractMethod) -> None:
        if not isinstance(explained.task, Response):
            raise ValueError(
                f"`explained` must have the task `Response`, got {type(explained.task).__name__}: load the model with "
                "`task=Response()`, or take `Attributor` for its labels."
            )
        super().__init__(explained, method)

    @classmethod
    def of(
        cls,
        model: str | Path | ExplainedModel,
        method: str | AbstractMethod = "attn_lrp",
        *,
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        device_map: DeviceMap = None,
        **settings: Any,
    ) -> "ResponseAttributor":
        """An attributor for any causal language model: the model and the method, each by its name.

        Args:
            model: hub id or folder, or a model that was loaded with `task=Response()`.
            method: a name of `METHODS`, or the folder or hub id of an explainer that was exported for this model.
            dtype: of the weights; float32 by default.
            batch_tokens: the token budget of one pass, padding included.
            device_map: where the parts of the model are put, as transformers has it.
            settings: of the method.

        Raises:
            ValueError: when there is no such model or method, or the method has no such setting.
        """
        task = None if isinstance(model, ExplainedModel) else Response()
        found = loaded(
            model, method, settings, task=task, dtype=dtype, batch_tokens=batch_tokens, device_map=device_map
        )
        return cls(*found)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, model: str | Path | None = None, **options: Any
    ) -> "ResponseAttributor":
        """Load an exported explainer of responses, and the model it explains; as `Attributor.from_pretrained` does."""
        explained, explainer = load_folder(str(name), None if model is None else str(model), **options)
        return cls(explained, Amortized(explainer))

    # A call: one prompt -> ResponseExplanation, a list -> list, any other iterable -> Iterator. A string is an iterable
    # of strings too, and messages are a list of mappings: what a list is depends on what is in it.

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        prompts: str | Mapping[str, Any] | list[dict[str, str]],
        *,
        response: Answer | None = None,
        span: Span | None = None,
        token: TokenPart | None = None,
        foil: Answer | None = None,
        **settings: Unpack[ResponseSettings],
    ) -> ResponseExplanation: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        prompts: list[str] | list[list[dict[str, str]]] | list[str | list[dict[str, str]]] | tuple[Any, ...],
        *,
        response: str | Sequence[Answer | None] | None = None,
        span: Span | Sequence[Span | None] | None = None,
        token: TokenPart | Sequence[TokenPart | None] | None = None,
        foil: str | Sequence[Answer | None] | None = None,
        **settings: Unpack[ResponseSettings],
    ) -> list[ResponseExplanation]: ...

    @overload
    def __call__(
        self,
        prompts: Iterable[Any],
        *,
        response: str | None = None,
        span: Span | None = None,
        token: TokenPart | None = None,
        foil: str | None = None,
        **settings: Unpack[ResponseSettings],
    ) -> Iterator[ResponseExplanation]: ...

    def __call__(
        self,
        prompts: Any,
        *,
        response: Any = None,
        span: Any = None,
        token: Any = None,
        foil: Any = None,
        score: Score | None = None,
        sources: Sources = "token",
        trust: bool = False,
        generate: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> Any:
        """Explain the response to one prompt, to each of a list of prompts, or to those of any other iterable.

        A prompt is a string that the model continues, or messages (`role`, `content`) for the tokenizer's chat
        template. It may also be a mapping with `prompt` or `messages`, and optionally `response`, `span`, `token`,
        `foil`, such as a row of a `datasets.Dataset`; what the mapping has comes first.

        ============================================ ===================================
        prompts                                      result
        ============================================ ===================================
        one: a string, messages, a mapping           ResponseExplanation
        a list or tuple of these                     list of them, in order
        any other iterable: generator, data set ...  iterator, read a chunk at a time
        ============================================ ===================================

        Args:
            prompts: one or more prompts.
            response: what is explained: text, or token ids; None: the model generates it. For a list of prompts, a
                list has one entry per prompt; so it is with `span`, `token` and `foil`, and anything else is for all.
            span: the explained part: characters (start, end), or a substring that occurs once.
            token: instead of a span: a token's number, (first, last + 1), or "next".
            foil: another whole response: explain the difference of the two log-probabilities.
            score: `logit` or `log_prob` of the target's tokens, summed; by default `logit`, with a foil `log_prob`.
            sources: what is scored as one: "token", "word", "sentence", "paragraph" or "message"; of one prompt also
                ranges (message, start, end) in characters.
            trust: also measure the fall of the log-probability without the highest sources (one more pooled pass).
            generate: settings of transformers' `generate`; by default it is greedy, of 128 tokens at most.
            progress: show a progress bar.

        Raises:
            TypeError: when `prompts` is neither a prompt nor an iterable.
            ValueError: when the response is empty or too long, it has no such span or token, the foil is the response,
                or the tokenizer cannot write these messages; of several prompts, `prompts[i]` says which.
        """
        options = ResponseOptions(score, sources, trust, generate, progress)
        inputs = read_prompts(prompts, response=response, span=span, token=token, foil=foil)
        if inputs.kind != "one" and not isinstance(sources, str):
            raise ValueError("`sources` as ranges are those of one prompt: call once per prompt, or name a level.")
        if inputs.kind == "stream":
            return self._chunks(inputs.items, options, CHUNK)
        explanations = self._explained(list(inputs.items), options, None if inputs.kind == "one" else count())
        return explanations[0] if inputs.kind == "one" else explanations

    def stream(self, prompts: Iterable[Any], chunk_size: int = CHUNK, **options: Any) -> Iterator[ResponseExplanation]:
        """Explain the responses to prompts of any iterable, a chunk at a time, in order.

        Args:
            chunk_size: prompts whose responses are generated before they are explained together.
            options: those of a call.

        Raises:
            ValueError: as of a call; `prompts[i]` counts over the whole stream.
        """
        asked = {name: options.pop(name) for name in ("response", "span", "token", "foil") if name in options}
        settings = ResponseOptions(**options)
        if not isinstance(settings.sources, str):
            raise ValueError("`sources` as ranges are those of one prompt: call once per prompt, or name a level.")
        return self._chunks(read_prompts(prompts, "stream", **asked).items, settings, chunk_size)

    def _chunks(
        self, items: Iterator[ResponseInput], options: ResponseOptions, chunk_size: int
    ) -> Iterator[ResponseExplanation]:
        numbers = count()
        while chunk := list(islice(items, chunk_size)):
            yield from self._explained(chunk, options, numbers)

    def _explained(
        self, items: Sequence[ResponseInput], options: ResponseOptions, numbers: Iterator[int] | None
    ) -> list[ResponseExplanation]:
        with model_lock(self.explained):
            asked = [self._numbered(item, options, None if numbers is None else next(numbers)) for item in items]
            return self.explain(asked, trust=options.trust, level=options.sources, progress=options.progress)

    def _numbered(self, item: ResponseInput, options: ResponseOptions, place: int | None) -> ExplainedResponse:
        try:
            return self.ask(item, options)
        except ValueError as error:
            if place is None:
                raise
            raise ValueError(f"`prompts[{place}]`: {error}") from error

    # The two steps of a call

    def ask(self, item: ResponseInput, options: ResponseOptions = ResponseOptions()) -> ExplainedResponse:
        """The first step of a call: the prompt with its response, which is generated where none is given."""
        with model_lock(self.explained):
            return explain_response(
                self.explained,
                item.prompt,
                item.response,
                span=item.span,
                token=item.token,
                foil=item.foil,
                score=options.score,
                sources=options.sources,
                generate=options.generate,
            )

    def explain(
        self,
        asked: Sequence[ExplainedResponse],
        *,
        trust: bool = False,
        level: Sources = "token",
        progress: bool = False,
    ) -> list[ResponseExplanation]:
        """The second step of a call: the explanations of prompts with their responses.

        Args:
            level: the `sources` that they were asked with, for the record.
        """
        if not asked:
            return []
        self._warn_of_length(max(len(one.text) for one in asked))
        with model_lock(self.explained):
            with self._running():
                label = self.method.label if progress else None
                found = explain_responses(self.method, self.explained, asked, label)
            trusts = response_trusts(self.explained, asked, [one.scores for one in found]) if trust else None
        pieces = self.explained.tokenizer.convert_ids_to_tokens
        return [
            ResponseExplanation(
                asked=one,
                scores=tuple(scores),
                log_probability=log_probability,
                tokens=tuple(pieces(list(one.response_ids))),
                method=self.method.label,
                level=level,
                operator=self.method.operator,
                relative=isinstance(self.method, Amortized),
                trust=None if trusts is None else trusts[i],
                attributor=self,
            )
            for i, (one, (scores, log_probability)) in enumerate(zip(asked, found, strict=True))
        ]

    def sources_of(self, prompt: Prompt, level: Sources) -> tuple[Source, ...]:
        """The sources of a prompt at a level; the model is not run."""
        return sources_of(self.explained, prompt, level)

    def passes(self, asked: ExplainedResponse) -> float:
        """The cost of one explanation in forward passes: the method's, and one for the log-probability."""
        return 1.0 + self.method.forward_equivalents(len(asked.sources))
