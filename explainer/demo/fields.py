"""The fields of a form as a browser sends them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

MAX_FIELDS = 200
"""The most fields of a form; a conversation has two per message."""


@dataclass(frozen=True)
class Fields:
    """What was typed and chosen, by the names of the fields.

    A browser sends a line feed as carriage return and line feed. Here texts have line feeds, as they were typed.

    Attributes:
        values: of each field, in the order of the form.
    """

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, body: bytes) -> "Fields":
        """The fields of a request's body, which is urlencoded UTF-8.

        Raises:
            ValueError: when it is not, or has more than `MAX_FIELDS` fields.
        """
        try:
            text = body.decode("ascii")
            found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError as error:
            raise ValueError(f"The form must be urlencoded UTF-8 of at most {MAX_FIELDS} fields: {error}.") from error
        return cls({name: [_typed(value) for value in values] for name, values in found.items()})

    @property
    def were_sent(self) -> bool:
        """Whether there was a form at all; a browser's first request has none."""
        return bool(self.values)

    def all(self, name: str) -> list[str]:
        """All values of a field that may be there several times."""
        return list(self.values.get(name, ()))

    def one(self, name: str, otherwise: str = "") -> str:
        """The value of a field, or another where the form has no such field."""
        return next(iter(self.values.get(name, ())), otherwise)

    def choice(self, name: str, choices: Sequence[str], otherwise: str = "") -> str:
        """The value of a field that has one of some values.

        Raises:
            ValueError: when it has another.
        """
        value = self.one(name, otherwise)
        if value not in choices:
            raise ValueError(f"`{name}` must be one of {', '.join(filter(None, choices))}, got {value!r:.80}.")
        return value

    def is_checked(self, name: str, at_first: bool = False) -> bool:
        """Whether a box is checked.

        Args:
            at_first: before a form was sent. A browser sends nothing for a box that is not checked.
        """
        return name in self.values if self.were_sent else at_first


def _typed(value: str) -> str:
    return value.replace("\r\n", "\n").replace("\r", "\n")
