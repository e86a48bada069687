"""Optional packages: the extra of this project that brings each, and imports that wait until they are used.

A light install has what loading and running an exported attributor needs. Modules that it can import take the other
packages from here, so that a missing one is named together with its extra.
"""

import importlib
from types import ModuleType
from typing import Any

EXTRAS = {
    "captum": "compare",
    "datasets": "compare",
    "pyarrow": "compare",
    "matplotlib": "plot",
    "peft": "peft",
    "pytorch_lightning": "train",
    "tensorboard": "train",
    "optuna": "train",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "accelerate": "llm",
    "gguf": "llm",
    "litserve": "serve",
    "pandas": "interchange",
    "shap": "interchange",
    "spacy": "spacy",
}
"""The optional packages by the name that is imported, and the smallest extra that installs each."""


def advice(package: str, extra: str | None = None) -> str:
    """How to install an optional package: by `extra`, or by the smallest that has it.

    >>> advice("captum")
    "captum is not installed: pip install 'amortex[compare]'."
    """
    return f"{package} is not installed: pip install 'amortex[{extra or EXTRAS[package]}]'."


def import_optional(name: str) -> ModuleType:
    """Import a module that is, or that imports, an optional package.

    Raises:
        ModuleNotFoundError: naming the package and the extra that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise ModuleNotFoundError(advice(package), name=package) from error


class OptionalModule:
    """Stands for a module that is imported when a name in it is first asked for.

    Args:
        name: of the module, such as `captum.attr`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of inspect and of doctest, which must not import anything
            raise AttributeError(name)
        return getattr(import_optional(self._name), name)
