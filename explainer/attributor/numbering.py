"""The numbers of texts in errors: those of a chunk are counted over the whole stream, a single text has none."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

# A text by its number, as errors name it. The number of a perturbed sequence is that of no text.
_TEXT = re.compile(r"(`(?:texts|text_pairs|scores)\[|\bof text )(\d+)")
_SEQUENCE = "`sequences["


@contextmanager
def counted_from(first: int, n: int) -> Iterator[None]:
    """Count the texts that errors name from `first`, for the time of a `with` block.

    Args:
        n: the texts of the chunk. An error that names a perturbed sequence of one of them says which they are.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        numbered = _TEXT.sub(lambda found: f"{found[1]}{int(found[2]) + first}", message, count=1)
        if numbered == message and _SEQUENCE in message:
            numbered = f"In the texts {first} to {first + n - 1}: {message}"
        if numbered == message or type(error) not in (TypeError, ValueError):  # others are not made of a message
            raise
        raise type(error)(numbered) from error


def without_number(error: ValueError) -> str:
    """The message about a single text or image, without its number 0."""
    message = str(error).replace(" of text 0", "")
    for name in ("text", "text_pair", "image"):
        message = message.replace(f"`{name}s[0]`", f"`{name}`")
    return message
