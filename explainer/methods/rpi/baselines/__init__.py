"""The baselines of RPI: samplers of attention, all subclasses of `base.AbstractBaseline`."""

from pathlib import Path

from explainer.methods.rpi.baselines.base import AbstractBaseline as AbstractBaseline
from explainer.methods.rpi.baselines.base import Attention as Attention
from explainer.methods.rpi.baselines.base import AttentionState as AttentionState
from explainer.methods.rpi.baselines.base import record_attention as record_attention
from explainer.methods.rpi.baselines.learned import Learned as Learned
from explainer.methods.rpi.baselines.untrained import AllReference, Gaussian, Zero

SAMPLERS: dict[str, AbstractBaseline] = {baseline.name: baseline for baseline in (Gaussian(), AllReference(), Zero())}


def sampler(baseline: str | AbstractBaseline) -> AbstractBaseline:
    """The sampler of that name, the learned one of an exported folder, or the sampler given.

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
