"""An exported attributor as a method beside others."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from explainer.attributor import Attributor
from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod
from explainer.methods.trained.amortized import Amortized
from explainer.storage.provenance import digest_of
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class Exported(AbstractMethod):
    """An exported attributor on an explained model of its own, because its adapters would cost the others time."""

    name: ClassVar[str] = "explainer"
    attributor: Attributor = field(compare=False)

    @classmethod
    def load(cls, folder: str, model: str, explained: ExplainedModel) -> "Exported":
        attributor = Attributor.from_pretrained(folder, model=model, batch_tokens=explained.batch_tokens)
        return cls(attributor.to(explained.device))

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return self.attributor.method(self.attributor.explained, batch, target)

    def forward_equivalents(self, n_scorable: int) -> float:
        return self.attributor.method.forward_equivalents(n_scorable)

    @cached_property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        """The network's own and a hash of its weights."""
        method = self.attributor.method
        assert isinstance(method, Amortized)
        weights = digest_of(method.explainer.trained(self.attributor.explained))
        return {"method": self.name, "kind": method.explainer.kind, **method.explainer.settings, "weights": weights}
