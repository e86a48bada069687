"""The words of a text, as numbers of its tokens: from the tokenizer's own words and the text's characters.

Tokenizers disagree about words. Some split at punctuation (BERT, GPT-2), some at white space only (T5), and some not at
all before their model runs (Llama, Gemma), so that they number the whole text as one word.
"""

import re
import unicodedata
from collections.abc import Sequence

from explainer.scored_text.units import visible_span

_UNSPACED = re.compile(  # Thai, Lao, Tibetan, Burmese, Khmer, kana, Han
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)


def word_numbers(
    texts: Sequence[str],
    segments: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    scorable: Sequence[bool],
    given: Sequence[int | None],
    *,
    splits_unspaced: bool = True,
) -> tuple[int, ...]:
    """The number of the word that each token belongs to, from 0 in each text; -1 for tokens without a score.

    A word begins where the tokenizer begins one, and after white space. Words share no character: tokens that do (the
    bytes of one character) are in one word. A token of white space alone, or of no character, belongs to the word after
    it, at the end of the text to the word before it; so no word is empty.

    Args:
        texts: the text, and the second one of a pair.
        segments: the index in `texts` of each token's text.
        offsets: (start, end) characters of each token in its text.
        scorable: which tokens get a score.
        given: the tokenizer's own number of each token's word.
        splits_unspaced: whether the tokenizer splits scripts that are written without spaces into words itself. Where
            it does not, every token of such a script is a word, unless it begins with a combining mark.
    """
    numbers = [-1] * len(offsets)
    for segment, text in enumerate(texts):
        word, end, before = -1, 0, None
        blank: list[int] = []  # tokens that wait for their word
        for i in (i for i, own in enumerate(segments) if own == segment):
            if not scorable[i]:
                before = None  # a special token that was typed in the text ends a word
                continue
            start, stop = visible_span(text, *offsets[i])
            if not text[start:stop].strip():
                blank.append(i)
                continue
            if word < 0 or (
                start >= end
                and (
                    given[i] != before
                    or any(character.isspace() for character in text[end:start])
                    or (not splits_unspaced and _begins_unspaced(text, start))
                )
            ):
                word += 1
            for place in (*blank, i):
                numbers[place] = word
            blank, end, before = [], max(end, stop), given[i]
        for place in blank:
            numbers[place] = max(word, 0)
    return tuple(numbers)


def _begins_unspaced(text: str, start: int) -> bool:
    """Whether a word may begin at a character by its script alone; `start` is above 0."""
    return bool(_UNSPACED.search(text[start - 1 : start + 1])) and not unicodedata.category(text[start]).startswith("M")
