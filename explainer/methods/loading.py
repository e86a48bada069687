"""Methods by name: one of `METHODS`, or an exported explainer in a folder or on the hub; and lists of LABEL=METHOD."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explainer.explained import ExplainedModel
from explainer.explained.tasks import FoilLike, task_from
from explainer.explainers.folder import is_exported as is_exported
from explainer.explainers.folder import load_onto
from explainer.methods import METHODS
from explainer.methods.base import AbstractMethod
from explainer.methods.best_of import BestOf
from explainer.methods.contrast import Contrast
from explainer.methods.trained.amortized import Amortized


def load_method(
    spec: str | AbstractMethod,
    explained: ExplainedModel | None = None,
    *,
    foil: FoilLike | None = None,
    score: str | None = None,
    best_by: str | None = None,
    **settings: Any,
) -> AbstractMethod:
    """The method that a name stands for, with its settings.

    >>> load_method("random", seed=3)
    Random(seed=3)

    Args:
        spec: a name of `METHODS`, or the folder or hub id of an exported explainer; a method stands for itself.
        explained: the model that an exported explainer is to explain; by default the one that its folder refers to.
        foil: contrasts the target with another choice: "runner_up", a label or an index (`Contrast`).
        score: explains the target's `log_prob` or `log_odds` instead of its logit (`Contrast`).
        best_by: takes the best of the method's candidates by this metric (`BestOf`).
        settings: of the method itself.

    Raises:
        ValueError: when there is no such method, or it has no such setting.
    """
    method = _unwrapped(spec, explained, settings)
    if best_by is not None:
        method = _built(BestOf, method.name, {"method": method, "by": best_by})
    return method if foil is None and score is None else Contrast(method, foil=foil, score=score or "logit")


def load_methods(
    settings: Mapping[str, Mapping[str, Any] | None], explained: ExplainedModel | None = None
) -> dict[str, AbstractMethod]:
    """{label: settings} as methods; the label is the method's name unless the settings name it by `method`.

    >>> load_methods({"random": {}, "another": {"method": "random", "seed": 3}})
    {'random': Random(seed=0), 'another': Random(seed=3)}

    Raises:
        ValueError: when there is no such method, or it has no such setting.
    """
    methods: dict[str, AbstractMethod] = {}
    for label, given in settings.items():
        own = dict(given or {})
        methods[label] = load_method(own.pop("method", label), explained, **own)
    return methods


def parse_methods(items: Sequence[str], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings, by label, of methods listed as METHOD or LABEL=METHOD.

    >>> parse_methods(["sig", "fifty=sig"], {"fifty": {"n_steps": 50}})
    {'sig': {'method': 'sig'}, 'fifty': {'n_steps': 50, 'method': 'sig'}}

    Args:
        items: a method is a name of `METHODS`, or the folder or hub id of an exported explainer. Without a label, the
            only folder is called `explainer`, and several are called by their own names.
        settings: of some methods, by their labels.

    Raises:
        ValueError: when a method is unknown, a label is there twice, or settings are of none of the methods.
    """
    folders = [item for item in items if "=" not in item and item.strip() not in METHODS]
    parsed: dict[str, dict[str, Any]] = {}
    for item in (item.strip() for item in items):
        label, _, name = item.partition("=") if "=" in item and not Path(item).exists() else ("", "", item)
        if name not in METHODS and not is_exported(name):
            raise ValueError(
                f"`--methods` must be of {', '.join(METHODS)}, or the folder or hub id of an attributor, got {name!r}."
            )
        alone = "explainer" if len(folders) == 1 else Path(name).name
        label = label or (name if name in METHODS else alone)
        if label in parsed:
            raise ValueError(f"`--methods` names {label!r} twice: give one of them another label, LABEL={name}.")
        parsed[label] = {**settings.get(label, {}), "method": name}
    if unknown := sorted(set(settings) - set(parsed)):
        raise ValueError(f"`--method-args` are by label, one of {', '.join(parsed)}, got {', '.join(unknown)}.")
    return parsed


def row_label(label: str, method: AbstractMethod) -> str:
    """The label of a method's row, with what must be known to read its numbers (a bound, a best-of)."""
    return label + method.label.removeprefix(method.name) if method.label.startswith(method.name) else method.label


def _unwrapped(
    spec: str | AbstractMethod, explained: ExplainedModel | None, settings: Mapping[str, Any]
) -> AbstractMethod:
    if isinstance(spec, AbstractMethod) or (spec not in METHODS and is_exported(spec)):
        if settings:
            name = spec.name if isinstance(spec, AbstractMethod) else spec
            raise ValueError(f"`settings` of method {name!r}: {', '.join(settings)} cannot be set from here.")
        return spec if isinstance(spec, AbstractMethod) else _exported(spec, explained)
    if spec not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}, or the folder or hub id of an exported explainer, got "
            f"{spec!r}."
        )
    return _built(METHODS[spec], spec, settings)


def _exported(name: str, explained: ExplainedModel | None) -> Amortized:
    """An exported explainer of a model; one that would change that model comes with a copy, on the same device."""
    if explained is None:
        return Amortized.load(name)
    if (explainer := load_onto(name, explained)) is not None:
        return Amortized(explainer, explained)
    options: dict[str, Any] = {"batch_tokens": explained.batch_tokens}
    if (task := task_from(explained.task.settings)) is not None:  # a prompt, which has to be that of the training
        options["task"] = task
    return Amortized.load(name, explained.name, **options).to(explained.device)


def _built(kind: type[AbstractMethod], name: str, settings: Mapping[str, Any]) -> AbstractMethod:
    """A method with its settings; settings that it does not have are refused by the method's name."""
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"`settings` of method {name!r}: {error}.") from error
