"""Several methods by the labels of their rows, so that one method can stand there with several settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainer.explainers.folder import is_attributor
from explainer.methods import METHODS, AbstractMethod, method


def methods_named(settings: Mapping[str, Mapping[str, Any] | None]) -> dict[str, AbstractMethod]:
    """{label: settings} as methods; the label is the method's name unless the settings name it by `method`.

    >>> methods_named({"random": {}, "another": {"method": "random", "seed": 3}})
    {'random': Random(seed=0), 'another': Random(seed=3)}

    Raises:
        ValueError: when there is no such method, or it has no such setting.
    """
    return {label: _method(label, dict(given or {})) for label, given in settings.items()}


def _method(label: str, settings: dict[str, Any]) -> AbstractMethod:
    return method(settings.pop("method", label), **settings)


def shown_as(label: str, method: AbstractMethod) -> str:
    """The label in a table, with what must be known to read its numbers (a bound, a best-of)."""
    return label + method.label.removeprefix(method.name) if method.label.startswith(method.name) else method.label


def labelled(items: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{label: settings, with the method's name or folder as `method`}.

    Raises:
        ValueError: when a method is unknown, a label is there twice, or settings are of none of the methods.
    """
    folders = [item for item in items if "=" not in item and item.strip() not in METHODS]
    wanted: dict[str, dict[str, Any]] = {}
    for item in (item.strip() for item in items):
        label, _, name = item.partition("=") if "=" in item and not Path(item).exists() else ("", "", item)
        if name not in METHODS and not is_attributor(name):
            raise ValueError(
                f"`--methods` must be of {', '.join(METHODS)}, or the folder or hub id of an attributor, got {name!r}."
            )
        alone = "explainer" if len(folders) == 1 else Path(name).name
        label = label or (name if name in METHODS else alone)
        if label in wanted:
            raise ValueError(f"`--methods` names {label!r} twice: give one of them another label, LABEL={name}.")
        wanted[label] = {**settings.get(label, {}), "method": name}
    if unknown := sorted(set(settings) - set(wanted)):
        raise ValueError(f"`--method-args` are by label, one of {', '.join(wanted)}, got {', '.join(unknown)}.")
    return wanted
