"""Attribution methods: one file each, one small contract (`base.AbstractMethod`)."""

from typing import Any

from explainer.methods.attention.attcat import AttCAT as AttCAT
from explainer.methods.attention.attention_rollout import AttentionRollout as AttentionRollout
from explainer.methods.attention.gae import GAE as GAE
from explainer.methods.base import AbstractMethod as AbstractMethod
from explainer.methods.captum import GradientShap as GradientShap
from explainer.methods.captum import InputTimesGradient as InputTimesGradient
from explainer.methods.captum import IntegratedGradientsMethod as IntegratedGradientsMethod
from explainer.methods.captum import KernelShap as KernelShap
from explainer.methods.captum import Lime as Lime
from explainer.methods.captum import Occlusion as Occlusion
from explainer.methods.deep_lift.deep_lift import DeepLift as DeepLift
from explainer.methods.greedy import GreedyDeletion as GreedyDeletion
from explainer.methods.greedy import GreedyKeeping as GreedyKeeping
from explainer.methods.leave_one_out import LeaveOneOut as LeaveOneOut
from explainer.methods.lrp.attn_lrp import AttnLRP as AttnLRP
from explainer.methods.lrp.cp_lrp import CPLRP as CPLRP
from explainer.methods.lrp.mask_lrp import MaskLRP as MaskLRP
from explainer.methods.random import Random as Random
from explainer.methods.rpi.baselines import AbstractBaseline as AbstractBaseline
from explainer.methods.rpi.rpi import RPI as RPI
from explainer.methods.sig import SIG as SIG
from explainer.methods.subset_regression import SubsetRegression as SubsetRegression

_ALL: tuple[type[AbstractMethod], ...] = (
    Random,
    InputTimesGradient,
    IntegratedGradientsMethod,
    GradientShap,
    DeepLift,
    AttentionRollout,
    GAE,
    AttCAT,
    AttnLRP,
    CPLRP,
    MaskLRP,
    RPI,
    SIG,
    LeaveOneOut,
    Occlusion,
    Lime,
    KernelShap,
    SubsetRegression,
    GreedyDeletion,
    GreedyKeeping,
)
METHODS: dict[str, type[AbstractMethod]] = {method.name: method for method in _ALL}


def method(name: str, **settings: Any) -> AbstractMethod:
    """The method of that name.

    Raises:
        ValueError: when there is no such method, or it has no such setting.
    """
    if name not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}, got {name!r}.")
    try:
        return METHODS[name](**settings)
    except TypeError as error:
        raise ValueError(f"`settings` of method {name!r}: {error}.") from error
