"""Images to explanations: what an attributor is for texts."""

from collections.abc import Sequence
from typing import Any

from explainer.attributor.attributor import Attributor
from explainer.attributor.options import CallOptions
from explainer.explained import EncodedText, ExplainedImageModel
from explainer.explanation import Explanation, ImageExplanation
from explainer.methods import AbstractMethod


class ImageAttributor:
    """Explains the images of an image classifier.

    Args:
        explained: the image classifier.
        method: a method of `METHODS`, or a trained explainer (`Amortized`).

    Raises:
        ValueError: when the model is one of texts.
    """

    def __init__(self, explained: ExplainedImageModel, method: AbstractMethod) -> None:
        self._attributor = Attributor(checked(explained), method)
        self.explained, self.method = explained, method

    @classmethod
    def of(cls, explained: ExplainedImageModel, method: str, **settings: Any) -> "ImageAttributor":
        """By a method's name and its settings, or the folder or hub id of an exported explainer."""
        return cls(explained, Attributor.of(checked(explained), method, **settings).method)

    @classmethod
    def from_pretrained(cls, name: str, *, model: str | None = None, **options: Any) -> "ImageAttributor":
        """An exported explainer of images, with the model that it explains; as `Attributor.from_pretrained`."""
        attributor = Attributor.from_pretrained(name, model=model, **options)
        return cls(checked(attributor.explained), attributor.method)

    def to(self, device: Any) -> "ImageAttributor":
        """Move the model, and the network of a trained explainer."""
        self._attributor.to(device)
        return self

    def __call__(
        self,
        images: Sequence[Any],
        *,
        target: Any = "predicted",
        targets: Any = None,
        foil: Any = None,
        score: Any = "logit",
        trust: bool = False,
    ) -> list[Any]:
        """One explanation per image, in their order; with `targets`, one dictionary by label per image.

        Args:
            images: paths, PIL images or arrays.
            target: a label or index, "predicted", or a list with one of these per image.
            targets: several labels, or "all".
            foil: a label, an index or "runner_up": explain why the target rather than this.
            score: `logit`, `log_prob` or `log_odds`.
            trust: measure what deleting and keeping the highest fifth of the patches does.

        Raises:
            ValueError: when a file does not exist or is no image, or there is no such label.
        """
        options = CallOptions(target=target, targets=targets, foil=foil, score=score, trust=trust)
        return self.explain(self.explained.encode(images), options)

    def explain(self, encoded: Sequence[EncodedText], options: CallOptions) -> list[Any]:
        """The explanations of encoded images (`ExplainedImageModel.encode`)."""
        results = self._attributor.explain(encoded, options)
        return [_of(self.explained, text, one) for text, one in zip(encoded, results, strict=True)]


def checked(explained: Any) -> ExplainedImageModel:
    """The model, if it is one of images.

    Raises:
        ValueError: when it is not.
    """
    if not isinstance(explained, ExplainedImageModel):
        raise ValueError(
            f"`explained` {explained.name!r} is no image classifier: use `Attributor` for models of texts."
        )
    return explained


def _of(explained: ExplainedImageModel, text: EncodedText, result: Any) -> Any:
    if isinstance(result, Explanation):
        return ImageExplanation.of(explained, text, result)
    return {label: ImageExplanation.of(explained, text, one) for label, one in result.items()}
