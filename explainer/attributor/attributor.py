"""The attributor: texts in, explanations out, by any method or by an exported explainer."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack, cast, overload

import torch

from explainer.attributor.base import AbstractAttributor, loaded
from explainer.attributor.inputs import TextInput, encode, read
from explainer.attributor.locking import model_lock
from explainer.attributor.numbering import counted_from
from explainer.attributor.options import CallOptions, Options, Targets, WordOptions
from explainer.attributor.responses import ResponseAttributor
from explainer.attributor.trust import Fallback, trusted
from explainer.attributor.units import share_in_units, with_units
from explainer.explained import AbstractTask, Attributions, EncodedText, ExplainedModel, Readout, Response, Target
from explainer.explained.pretrained import DeviceMap
from explainer.explained.readout import Score
from explainer.explained.tasks import FoilLike, TargetLike
from explainer.explainers.folder import load_folder
from explainer.explanation import Explanation
from explainer.methods.base import AbstractMethod
from explainer.methods.best_of import BestOf
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.refined import Refined
from explainer.scored_text import Units

Words = list[str] | tuple[str, ...]
OneText = str | Mapping[str, Any]
AnyText = TypeVar("AnyText", bound=OneText | Words)


class Attributor(AbstractAttributor):
    """An explained model and the method that explains it.

    >>> attributor = Attributor.from_pretrained("checkpoints/demo-attributor")  # doctest: +SKIP
    >>> attributor("a gorgeous , witty film").words()  # doctest: +SKIP

    The same call gives the same scores, to the bit. Threads may share an attributor, and several attributors of one
    explained model: explaining edits the model for the time of a pass, so one call runs at a time (of a stream, one
    chunk).

    Raises:
        ValueError: when the explained model has the task `Response`, whose attributor is `ResponseAttributor`.
    """

    def __init__(self, explained: ExplainedModel, method: AbstractMethod) -> None:
        if isinstance(explained.task, Response):
            raise ValueError(
                "`explained` has the task `Response`: take `ResponseAttributor(explained, method)`, or "
                "`Attributor.of(...)`, which gives one."
            )
        super().__init__(explained, method)

    @overload
    @classmethod
    def of(
        cls,
        model: str | Path,
        method: str | AbstractMethod = "attn_lrp",
        *,
        task: Response,
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        device_map: DeviceMap = None,
        **settings: Any,
    ) -> ResponseAttributor: ...

    @overload
    @classmethod
    def of(
        cls,
        model: str | Path | ExplainedModel,
        method: str | AbstractMethod = "attn_lrp",
        *,
        task: AbstractTask | None = None,
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        device_map: DeviceMap = None,
        **settings: Any,
    ) -> "Attributor": ...

    @classmethod
    def of(
        cls,
        model: str | Path | ExplainedModel,
        method: str | AbstractMethod = "attn_lrp",
        *,
        task: AbstractTask | None = None,
        dtype: torch.dtype | None = None,
        batch_tokens: int | None = None,
        device_map: DeviceMap = None,
        **settings: Any,
    ) -> Any:
        """An attributor for any model: the model and the method, each by its name.

        >>> Attributor.of("your/model", method="sig", n_steps=50)("a witty film").show()  # doctest: +SKIP

        Args:
            model: hub id, model folder or PEFT adapter folder, or a loaded model.
            method: a name of `METHODS`, or the folder or hub id of an explainer that was exported for this model.
            task: what a language model is asked: `PromptedClassification.of(prompt)`, or `Response()` to explain what
                it says; by default the model is a classifier.
            dtype: of the weights; float32 by default.
            batch_tokens: the token budget of one pass, padding included.
            device_map: where the parts of the model are put, as transformers has it.
            settings: of the method; `foil`, `score` and `best_by` are settings of every method.

        Returns:
            An `Attributor`; a `ResponseAttributor` where the task is `Response`.

        Raises:
            ValueError: when there is no such model or method, or the method has no such setting.
        """
        explained, found = loaded(
            model, method, settings, task=task, dtype=dtype, batch_tokens=batch_tokens, device_map=device_map
        )
        return ResponseAttributor(explained, found) if isinstance(explained.task, Response) else cls(explained, found)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, model: str | Path | None = None, **options: Any) -> "Attributor":
        """Load an exported explainer from its folder or hub id, and the model it explains.

        Args:
            model: the explained model, where it is not at the place the export refers to.
            options: for `ExplainedModel.from_pretrained` (dtype, batch_tokens).

        Returns:
            An `Attributor`; a `ResponseAttributor` where the explainer is one of responses.

        Raises:
            ValueError: when there is no exported explainer, its files are broken, or tokenizer or weights of the
                explained model are not those it was trained for.
        """
        explained, explainer = load_folder(str(name), None if model is None else str(model), **options)
        if isinstance(explained.task, Response):
            return cast("Attributor", ResponseAttributor(explained, Amortized(explainer)))
        return cls(explained, Amortized(explainer))

    # A call: one text -> Explanation, a list -> list, any other iterable -> Iterator; with `targets` of dictionaries.
    # Overlaps are ignored, since a string is an iterable of strings too; the first overload that fits is the right one.

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        texts: Words,
        text_pairs: Words | None = None,
        *,
        is_split_into_words: Literal[True],
        targets: None = None,
        **options: Unpack[WordOptions],
    ) -> Explanation: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        texts: Words,
        text_pairs: Words | None = None,
        *,
        is_split_into_words: Literal[True],
        targets: Targets,
        **options: Unpack[WordOptions],
    ) -> dict[str, Explanation]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: OneText, text_pairs: str | Words | None = None, *, targets: None = None, **options: Unpack[Options]
    ) -> Explanation: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, texts: OneText, text_pairs: str | Words | None = None, *, targets: Targets, **options: Unpack[Options]
    ) -> dict[str, Explanation]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        texts: list[AnyText] | tuple[AnyText, ...],
        text_pairs: Sequence[str | Words | None] | None = None,
        *,
        targets: None = None,
        **options: Unpack[Options],
    ) -> list[Explanation]: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        texts: list[AnyText] | tuple[AnyText, ...],
        text_pairs: Sequence[str | Words | None] | None = None,
        *,
        targets: Targets,
        **options: Unpack[Options],
    ) -> list[dict[str, Explanation]]: ...

    @overload
    def __call__(
        self,
        texts: Iterable[OneText | Words],
        text_pairs: Iterable[str | Words | None] | None = None,
        *,
        targets: None = None,
        **options: Unpack[Options],
    ) -> Iterator[Explanation]: ...

    @overload
    def __call__(
        self,
        texts: Iterable[OneText | Words],
        text_pairs: Iterable[str | Words | None] | None = None,
        *,
        targets: Targets,
        **options: Unpack[Options],
    ) -> Iterator[dict[str, Explanation]]: ...

    def __call__(
        self,
        texts: Any,
        text_pairs: Any = None,
        *,
        target: TargetLike | Sequence[TargetLike] = "predicted",
        targets: Targets | None = None,
        foil: FoilLike | None = None,
        score: Score = "logit",
        units: Units | None = None,
        is_split_into_words: bool = False,
        trust: bool = False,
        fallback: str | AbstractMethod | Fallback | None = None,
        min_faithfulness: float | int | None = None,
        progress: bool = False,
    ) -> Any:
        """Explain one text, a list of texts, or any other iterable of them.

        A text is a string, a list of words (`is_split_into_words`), or a mapping with `text` and optionally
        `text_pair`, or with `question` and `context`, such as a row of a `datasets.Dataset`. An empty text gives an
        explanation without scored tokens. Where the tokenizer adds no special tokens the model has nothing to read
        then, which is an error.

        ============================================ ============ ==================================
        texts                                        `target`     `targets`
        ============================================ ============ ==================================
        one                                          Explanation  {label: Explanation}
        a list or tuple                              list of them list of them, in order
        any other iterable: generator, data set ...  iterator     iterator, read a chunk at a time
        ============================================ ============ ==================================

        Args:
            texts: one or more texts.
            text_pairs: second texts, one per text: of classifiers of pairs, and the contexts of questions.
            target: "predicted", a label, an index, or a list with one of these per text. The prediction of a
                multi-label model is its most probable label; a regression with several values has none. Of tagged
                words and of answers: "predicted" (the most probable entity, the best span), (start, end) characters of
                the text (of the context), a part of it that occurs once, or the number of a token.
            targets: several choices for every text instead: a list of labels and indices, or "all"; of tagged words
                "all" are the predicted entities.
            foil: explain why the target rather than this label or index; "runner_up" is the most probable other one. Of
                tagged words it is a tag or a type of entities, of answers a span.
            score: the number that is explained: the target's "logit", its "log_prob" or its "log_odds", less the
                foil's.
            units: one score per "word", "sentence" or "paragraph", or per (start, end) characters of one text, where
                the rest of the text is one more unit. Methods that perturb take whole units away; a unit's score is
                shared evenly among its tokens.
            is_split_into_words: texts are lists of words; offsets are then characters of the words joined by spaces.
            trust: also measure how well each explanation agrees with its prediction (one more batched pass).
            fallback: a method (its name or settings) for explanations whose faithfulness is below `min_faithfulness`.
            min_faithfulness: comprehensiveness minus sufficiency, between -1 and 2; in units of the predicted value for
                a regression.
            progress: show a progress bar.

        Raises:
            TypeError: when a text is not a string (or list of words).
            ValueError: when a target is unknown, arguments do not go together, or a text has no tokens at all.
        """
        inputs = read(texts, text_pairs, is_split_into_words)
        options = CallOptions.of(
            fallback,
            min_faithfulness,
            target=target,
            targets=targets,
            foil=foil,
            score=score,
            units=units,
            is_split_into_words=is_split_into_words,
            trust=trust,
            progress=progress,
        )
        if inputs.kind == "stream":
            return self._stream(inputs.items, options)
        if inputs.kind == "list" and not isinstance(units, str | None):
            raise ValueError("`units` as character ranges are those of one text: call once per text, or name a unit.")
        explanations = self._explain_items(list(inputs.items), options)
        return explanations[0] if inputs.kind == "one" else explanations

    @overload
    def stream(
        self,
        texts: Iterable[OneText | Words],
        text_pairs: Iterable[str | Words | None] | None = None,
        chunk_size: int = 512,
        *,
        targets: None = None,
        **options: Unpack[Options],
    ) -> Iterator[Explanation]: ...

    @overload
    def stream(
        self,
        texts: Iterable[OneText | Words],
        text_pairs: Iterable[str | Words | None] | None = None,
        chunk_size: int = 512,
        *,
        targets: Targets,
        **options: Unpack[Options],
    ) -> Iterator[dict[str, Explanation]]: ...

    def stream(self, texts: Any, text_pairs: Any = None, chunk_size: int = 512, **options: Any) -> Any:
        """Explain texts of any iterable, a chunk at a time, in order; `options` are those of a call.

        Raises:
            ValueError: when `target` is a list: here it is one for all texts.
        """
        return self._stream(read(iter(texts), text_pairs).items, CallOptions.of(**options), chunk_size)

    def _stream(self, items: Iterator[TextInput], options: CallOptions, chunk_size: int = 512) -> Iterator[Any]:
        if not isinstance(options.target, str | Integral):
            raise ValueError("`target` must be one for all texts of a stream; call with lists for one per text.")
        if not isinstance(options.units, str | None):
            raise ValueError("`units` as character ranges are those of one text: call once per text, or name a unit.")
        return self._chunks(items, options, chunk_size)

    def _chunks(self, items: Iterator[TextInput], options: CallOptions, chunk_size: int) -> Iterator[Any]:
        first = 0
        while chunk := list(islice(items, chunk_size)):
            with counted_from(first, len(chunk)):
                explanations = self._explain_items(chunk, options)
            yield from explanations
            first += len(chunk)

    def refine(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        steps: int = 10,
        best_by: str | None = None,
        target: TargetLike = "predicted",
        units: Units | None = None,
        is_split_into_words: bool = False,
        trust: bool = False,
        **settings: Any,
    ) -> Explanation:
        """The explanation of one text after `steps` more updates of the explainer on this text (AML's fAML).

        The attributor is left as it was, to the bit.

        Args:
            text: a string, a list of words, or a mapping with `text` and `text_pair`.
            steps: updates; 0 gives the explanation of a call.
            best_by: a metric's name: the best of the `steps` + 1 sets of scores by that metric, on the text itself, as
                the label then says. The last one by default.
            target: as in a call, and so are `units`, `is_split_into_words` and `trust`.
            settings: of `Refined` (`learning_rate`, `kept`, `destroyed`, `sparse`, `weight_decay`).

        Raises:
            ValueError: when the method is no trained explainer.
        """
        refined = Refined(self._explainer("refine"), steps=steps, **settings)
        method = refined if best_by is None else BestOf(refined, best_by)
        options = CallOptions(target=target, units=units, is_split_into_words=is_split_into_words, trust=trust)
        items = list(read([text], [text_pair]).items)
        return Attributor(self.explained, method)._explain_items(items, options)[0]

    # From texts to explanations

    def explain(self, texts: Sequence[EncodedText], options: CallOptions) -> list[Any]:
        """The explanations of encoded texts (`explained.encode`), as a call gives those of a list."""
        with model_lock(self.explained):
            return self._explanations(texts, options)

    def _explain_items(self, items: Sequence[TextInput], options: CallOptions) -> list[Any]:
        with model_lock(self.explained):
            encoded = encode(self.explained, items, options.is_split_into_words)
            return self._explanations(with_units(encoded, options.units), options)

    def _explanations(self, texts: Sequence[EncodedText], options: CallOptions) -> list[Any]:
        """One explanation per text, or one dictionary per text where several targets are asked for."""
        marked = self.explained.task.anchored
        targets = [] if marked else options.asked(self.explained.task, len(texts))
        if len(texts) == 0:
            return []
        self._warn_of_length(max(map(len, texts)))
        if marked:
            texts, targets, counts = self._marked(texts, options)
        else:
            counts = [len(targets)] * len(texts)
        if len(texts) == 0:  # no text has an entity
            return [{} for _ in counts]
        with self._running():
            progress = self.method.label if options.progress else None
            readout, by_target = self.method.explain(self.explained, texts, targets, progress)
        explanations = self._judged(readout, share_in_units(_by_text(by_target)), options)
        if options.targets is None:
            return explanations
        each = iter(explanations)
        return [_by_label(list(islice(each, count))) for count in counts]

    def _marked(
        self, texts: Sequence[EncodedText], options: CallOptions
    ) -> tuple[list[EncodedText], list[Target], list[int]]:
        """The texts with marks at what is explained of each, once for each of `targets`; and how many these are."""
        task, readout = self.explained.task, self.explained.predict([text.tokens for text in texts])
        if options.targets is None:
            marked, target = task.asked(texts, readout, options.target, options.foil, options.score)
            return marked, [target], [1] * len(texts)
        each = [task.several_of(text, readout[i : i + 1], options.targets) for i, text in enumerate(texts)]
        owners = [i for i, wanted in enumerate(each) for _ in wanted]
        wanted = [one for of_text in each for one in of_text]
        repeated = [texts[i] for i in owners]
        marked, target = task.asked(repeated, readout[owners], wanted, options.foil, options.score)
        return marked, [target], [len(of_text) for of_text in each]

    def _judged(self, readout: Readout, attributions: Attributions, options: CallOptions) -> list[Explanation]:
        """The explanations of attributions, with trust and fallback where they are asked for."""
        repeats = len(attributions) // len(readout)
        explanations = [
            Explanation.of(
                self.explained,
                attributions.texts[i],
                attributions.scores[i],
                attributions.target[i : i + 1],
                readout[i // repeats : i // repeats + 1],
                self.method.label,
            )
            for i in range(len(attributions))
        ]
        if options.fallback is not None:
            return options.fallback(self.explained, attributions, explanations)
        return trusted(self.explained, attributions, explanations) if options.trust else explanations


def _by_label(explanations: Sequence[Explanation]) -> dict[str, Explanation]:
    """The explanations of one text by the names of their targets; equal names are told apart by their indices."""
    names = Counter(label for label, _ in {(one.target_label, str(one.target)) for one in explanations})
    return {
        one.target_label if names[one.target_label] == 1 else f"{one.target_label} ({one.target})": one
        for one in explanations
    }


def _by_text(by_target: Sequence[Attributions]) -> Attributions:
    """The attributions for several targets as one, those of a text next to each other."""
    if len(by_target) == 1:
        return by_target[0]
    n = len(by_target[0])
    order = [k * n + i for i in range(n) for k in range(len(by_target))]
    everything = Target.joined([one.target for one in by_target])
    texts, scores = ([item for one in by_target for item in getattr(one, name)] for name in ("texts", "scores"))
    return Attributions([texts[i] for i in order], everything[order], [scores[i] for i in order])
