"""Texts or images of a file to tokens, with errors and warnings that say where in the file."""

import warnings
from collections.abc import Callable, Sequence

from explainer.attributor.numbering import without_number
from explainer.explained import EncodedText, ExplainedModel


def encode_one(explained: ExplainedModel, text: str, text_pair: str | None, place: str) -> EncodedText:
    """The tokens of one text.

    Args:
        place: where the text comes from, such as "in.jsonl, line 3".

    Raises:
        ValueError: when the model cannot read the text; the message begins with the place.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            (encoded,) = explained.encode([text], [text_pair])
        except ValueError as error:
            raise ValueError(f"{place}: {without_number(error)}") from error
    for warning in caught:
        message = str(warning.message).replace("Text 0", "The text")
        warnings.warn(f"{place}: {message}", warning.category, stacklevel=2)
    return encoded


def encode_all(
    explained: ExplainedModel, texts: Sequence[str], text_pairs: Sequence[str | None], place: Callable[[int], str]
) -> list[EncodedText]:
    """The tokens of all texts.

    Args:
        place: where a text comes from, by its number.

    Raises:
        ValueError: when the model cannot read a text; the message begins with the text's place.
    """
    try:
        return explained.encode(texts, text_pairs)
    except ValueError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of texts that are too long were shown
            for i, (text, pair) in enumerate(zip(texts, text_pairs, strict=True)):
                encode_one(explained, text, pair, place(i))
        raise
