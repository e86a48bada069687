"""Units of a text (words, sentences, paragraphs, given character ranges) and the unit of each token.

A paragraph ends at a blank line. Sentences are found inside paragraphs, by the rules of `_ends_sentence` and lists of
English abbreviations; nothing is downloaded. Both cover the whole text, so that every token belongs to one of them.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

UnitLevel = Literal["word", "sentence", "paragraph"]

Units = UnitLevel | Sequence[tuple[int, int] | tuple[int, int, int]]
"""A level, or character ranges (start, end) of the text; (start, end, 1) is a range of the second text of a pair."""

_CLOSING = "\"'”’»›)\\]}」』】）》〉"
_OPENING = "\"'“‘„«‹([{「『【（《〈¿¡"
_STOP = re.compile(
    f"(?P<stop>(?<![.!?…‽])[.!?…‽]++(?:[^\\S\\r\\n]++[.!?…‽]++)*|[؟۔।॥։])(?P<closed>[{_CLOSING}]*)(?=\\s|$)|[。！？｡]+[{_CLOSING}]*"
)
_BLANK_LINE = re.compile(r"(?:\r\n?|\n)[^\S\r\n]*(?:\r\n?|\n)\s*")
_NUMBERING = re.compile(r"\s*[(\[]?(?:\d{1,3}|[A-Za-z])")

_NEXT = re.compile(f"\\s*[{_OPENING}]*(?P<first>\\S)")

# A name or a number follows these abbreviations: no sentence ends there.
_TITLES = frozenset(
    re.findall(
        r"\S+",
        "mr mrs ms dr prof st rev gen col capt sgt lt hon pres gov sen rep fig figs vol pp eq cf vs approx e.g i.e",
    )
)
# These may end a sentence; it goes on where the next word is in lower case.
_SHORTENED = frozenset(
    re.findall(r"\S+", "etc inc ltd co corp jr sr al dept est min max jan feb mar apr jun jul aug sep oct nov dec")
)


class UnitRange(NamedTuple):
    """The characters from `start` to `end` of the text, or of the second text where `segment` is 1."""

    segment: int
    start: int
    end: int


def unit_ranges(text: str, text_pair: str | None, units: Units) -> list[UnitRange]:
    """The sentences or paragraphs of a text and its pair, or the given ranges.

    Sentences and paragraphs include the white space after them.

    Raises:
        ValueError: when there is no such level, or a range is outside its text or overlaps another.
    """
    texts = [text] if text_pair is None else [text, text_pair]
    if not isinstance(units, str):
        return _checked([UnitRange(given[2] if len(given) == 3 else 0, *given[:2]) for given in units], texts)
    if units not in ("sentence", "paragraph"):
        raise ValueError(
            f"`units` must be one of {', '.join(get_args(UnitLevel))} or a list of character ranges, got {units!r}."
        )
    return [
        UnitRange(segment, start, end)
        for segment, one in enumerate(texts)
        for paragraph in _cut(one, 0, len(one), [match.end() for match in _BLANK_LINE.finditer(one)])
        for start, end in ([paragraph] if units == "paragraph" else _sentences(one, *paragraph))
    ]


def unit_numbers(
    text: str,
    offsets: Sequence[tuple[int, int]],
    scorable: Sequence[bool],
    segments: Sequence[int],
    units: Units,
    *,
    text_pair: str | None = None,
    words: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """The number of the unit that each token belongs to; -1 for tokens without a score or outside all given ranges.

    Sentences and paragraphs are numbered through the text and its pair, ranges by their places in the list. A token
    belongs to the unit that has most of its visible characters.

    Args:
        offsets: (start, end) characters of each token in its text.
        scorable: which tokens get a score.
        segments: 1 for the tokens of `text_pair`, else 0.
        units: a level or character ranges.
        words: the number of the word of each token, by the tokenizer; needed at the level `word` only.

    Raises:
        ValueError: when there is no such level, or a range is outside its text or overlaps another.
    """
    if isinstance(units, str) and units == "word":
        if words is None:
            raise ValueError("`units` 'word' needs `words`, the number of the word that each token belongs to.")
        numbers: dict[tuple[int, int], int] = {}
        return tuple(
            numbers.setdefault((segment, word), len(numbers)) if scored else -1
            for segment, word, scored in zip(segments, words, scorable, strict=True)
        )
    ranges = unit_ranges(text, text_pair, units)
    order = sorted(range(len(ranges)), key=ranges.__getitem__)
    starts = [ranges[number][:2] for number in order]
    texts = (text, text_pair or "")

    def unit_of(segment: int, start: int, end: int) -> int:
        start, end = visible_span(texts[segment], start, end)
        if start == end:  # a token without characters goes with the one after it, at the end with the one before
            start = min(start, max(0, len(texts[segment]) - 1))
            end = start + 1
        first, last = bisect_right(starts, (segment, start)) - 1, bisect_left(starts, (segment, end))
        shares = {
            number: min(ranges[number].end, end) - max(ranges[number].start, start)
            for number in order[max(first, 0) : last]
            if ranges[number].segment == segment
        }
        best = max(shares, key=shares.__getitem__, default=-1)
        return best if shares.get(best, 0) > 0 else -1

    return tuple(
        unit_of(segment, *offset) if scored else -1
        for segment, offset, scored in zip(segments, offsets, scorable, strict=True)
    )


def visible_span(text: str, start: int, end: int) -> tuple[int, int]:
    """The range without the white space at its ends; unchanged where it has nothing else."""
    stretch = text[start:end]
    if not stretch.strip():
        return start, end
    return start + len(stretch) - len(stretch.lstrip()), start + len(stretch.rstrip())


def _checked(ranges: list[UnitRange], texts: Sequence[str]) -> list[UnitRange]:
    for number, (segment, start, end) in enumerate(ranges):
        if not (0 <= segment < len(texts) and 0 <= start < end <= len(texts[segment])):
            lengths = " and ".join(str(len(one)) for one in texts)
            raise ValueError(
                f"`units[{number}]` must be characters (start, end) of a text of {lengths}, or (start, end, 1) of its "
                f"pair, got {(start, end, segment)}."
            )
    for one, other in pairwise(sorted(ranges)):
        if one.segment == other.segment and other.start < one.end:
            raise ValueError(f"`units` must not overlap, got {one[1:]} and {other[1:]}.")
    return ranges


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of a paragraph, each with the white space after it."""
    ends: list[int] = []
    for stop in _STOP.finditer(text, start, end):
        if _ends_sentence(text, max([start, *ends[-1:]]), stop):
            ends.append(stop.end() + len(text[stop.end() : end]) - len(text[stop.end() : end].lstrip()))
    return _cut(text, start, end, ends)


def _ends_sentence(text: str, start: int, stop: re.Match[str]) -> bool:
    """Whether a full stop, or another sign that may end a sentence, ends the one that begins at `start`."""
    sign = stop["stop"]
    if sign is None:  # a full stop of Chinese or Japanese needs no white space after it
        return True
    following = _NEXT.match(text, stop.end())
    continues = following is not None and following["first"].islower()
    if stop["closed"] and continues:  # "Really?" he asked.
        return False
    if sign != "." and not sign.startswith(("..", "…", ". .")):
        return True
    if sign != ".":
        return not continues
    before = text[start : stop.start()]
    word = before.split()[-1].lstrip(_OPENING) if before and not before[-1].isspace() else ""
    if _NUMBERING.fullmatch(before) or word.lower() in _TITLES:
        return False
    if word.lower() == "no" and following is not None and following["first"].isdigit():
        return False
    if len(word) == 1 and word.isupper() and word != "I":  # an initial
        return False
    return not (continues and (word.lower() in _SHORTENED or "." in word))


def _cut(text: str, start: int, end: int, ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The ranges between the cuts; one in which nothing is visible is joined to the next, or to the one before."""
    kept = [cut for cut in ends if text[start:cut].strip() and text[cut:end].strip()]
    yield from pairwise([start, *kept, max(end, 1) if end == len(text) else end])
