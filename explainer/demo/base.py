"""What the demos of texts and of responses share: limits, and the choice of a second method."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from explainer.attributor.base import AbstractAttributor
from explainer.demo.elements import select
from explainer.demo.fields import Fields
from explainer.methods.trained.amortized import Amortized

AttributorT = TypeVar("AttributorT", bound=AbstractAttributor)


@dataclass(frozen=True)
class Limits:
    """The most that one form may ask for.

    Attributes:
        characters: of all texts together.
        passes: of the model, for one explanation.
        new_tokens: of a response that the model generates.
    """

    characters: int = 10_000
    passes: int = 2000
    new_tokens: int = 128

    def check_characters(self, *texts: str) -> None:
        """Refuse more characters.

        Raises:
            ValueError: saying how many there are.
        """
        n = sum(map(len, texts))
        if n > self.characters:
            raise ValueError(
                f"The text has {n:,} characters, and this page takes {self.characters:,} (`--max_characters`): shorten "
                "it."
            )

    def check_passes(self, method: str, passes: float) -> None:
        """Refuse an explanation that takes more passes of the model.

        Raises:
            ValueError: saying how many it takes.
        """
        if passes > self.passes:
            raise ValueError(
                f"Method {method!r} takes about {passes:,.0f} passes of the model for this text, and this page takes "
                f"{self.passes:,} (`--max_passes`): choose another method, coarser units, or a shorter text."
            )


@dataclass(frozen=True)
class AbstractDemo(ABC, Generic[AttributorT]):
    """A form, and the answer to what is typed into it.

    Attributes:
        question: the heading of the page.
        attributor: what explains.
        others: attributors of the same model by their labels, of which one may be shown beside it.
    """

    question: ClassVar[str]
    attributor: AttributorT
    others: Mapping[str, AttributorT] = field(default_factory=dict)
    limits: Limits = Limits()

    @abstractmethod
    def form(self, fields: Fields) -> str:
        """The elements of the form as HTML, filled with what was sent."""

    @abstractmethod
    def answer(self, fields: Fields) -> str:
        """The answer to a form as HTML; empty where it asks for nothing yet.

        Raises:
            ValueError: when the form asks for what there is not; the message says what came, and the way out.
        """

    @property
    def buttons(self) -> str:
        """Further buttons below the form, as HTML."""
        return ""

    @property
    def contrasts(self) -> bool:
        """Whether the method explains why one thing rather than another; trained explainers do not."""
        return not isinstance(self.attributor.method, Amortized)

    @property
    def model(self) -> str:
        """The name of the explained model, without its folder."""
        return Path(self.attributor.explained.name or "model").name

    def beside(self, fields: Fields) -> str:
        """The choice of a second method."""
        options = [("", "none"), *((label, label) for label in self.others)]
        return select("beside", "Second method beside it", options, fields.one("beside")) if self.others else ""

    def chosen(self, fields: Fields) -> list[str]:
        """The label of the second method, where one is chosen.

        Raises:
            ValueError: when there is no such method.
        """
        label = fields.choice("beside", ["", *self.others])
        return [label] if label else []
