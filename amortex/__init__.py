"""Amortex under one name: what `explainer` offers, and the training modules, which are imported when they are used."""

from typing import TYPE_CHECKING, Any

from explainer import *

if TYPE_CHECKING:
    from lightning_modules.baseline import BaselineTraining as BaselineTraining
    from lightning_modules.classifier import ClassifierTraining as ClassifierTraining
    from lightning_modules.data.text import TextData as TextData
    from lightning_modules.mask import MaskTraining as MaskTraining
    from lightning_modules.response import ResponseTraining as ResponseTraining

TRAINING = {
    "BaselineTraining": "lightning_modules.baseline",
    "ClassifierTraining": "lightning_modules.classifier",
    "MaskTraining": "lightning_modules.mask",
    "ResponseTraining": "lightning_modules.response",
    "TextData": "lightning_modules.data.text",
}
"""The names that need Lightning (the extra `train`), and their modules."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("amortex")
    if name in TRAINING:
        from explainer.extras import import_optional

        return getattr(import_optional(TRAINING[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *TRAINING, "__version__"])
