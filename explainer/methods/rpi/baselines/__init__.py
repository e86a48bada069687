"""Baselines of RPI, drawn by whatever keeps the contract of `base.AbstractBaseline`."""

from pathlib import Path

from explainer.methods.rpi.baselines.base import AbstractBaseline as AbstractBaseline
from explainer.methods.rpi.baselines.base import AttentionState as AttentionState
from explainer.methods.rpi.baselines.base import Maps as Maps
from explainer.methods.rpi.baselines.base import recorded as recorded
from explainer.methods.rpi.baselines.learned import Learned as Learned
from explainer.methods.rpi.baselines.untrained import AllReference, Gaussian, Zero

SAMPLERS: dict[str, AbstractBaseline] = {baseline.name: baseline for baseline in (Gaussian(), AllReference(), Zero())}


def sampler(baseline: str | AbstractBaseline) -> AbstractBaseline:
    """The sampler of that name, that of an exported folder, or the one given.

    Raises:
        ValueError: when there is no such sampler.
    """
    if isinstance(baseline, AbstractBaseline):
        return baseline
    if baseline in SAMPLERS:
        return SAMPLERS[baseline]
    if "/" in baseline or Path(baseline).is_dir():
        return Learned.load(baseline)
    raise ValueError(
        f"`baseline` must be one of {', '.join(SAMPLERS)}, a folder of `explainer export`, or a sampler, "
        f"got {baseline!r}."
    )
