"""Attribution methods: one file each, one small contract (`base.AbstractMethod`)."""

from typing import Any

from explainer.methods.attcat import AttCAT as AttCAT
from explainer.methods.attention_rollout import AttentionRollout as AttentionRollout
from explainer.methods.attn_lrp import AttnLRP as AttnLRP
from explainer.methods.base import AbstractMethod as AbstractMethod
from explainer.methods.captum_methods import InputTimesGradient as InputTimesGradient
from explainer.methods.captum_methods import IntegratedGradientsMethod as IntegratedGradientsMethod
from explainer.methods.gae import GAE as GAE
from explainer.methods.leave_one_out import LeaveOneOut as LeaveOneOut
from explainer.methods.mask_lrp import MaskLRP as MaskLRP
from explainer.methods.random import Random as Random
from explainer.methods.sig import SIG as SIG
from explainer.methods.subset_regression import SubsetRegression as SubsetRegression

METHODS: dict[str, type[AbstractMethod]] = {
    method.name: method
    for method in (
        Random,
        InputTimesGradient,
        IntegratedGradientsMethod,
        AttnLRP,
        SIG,
        LeaveOneOut,
        SubsetRegression,
        AttentionRollout,
        GAE,
        AttCAT,
        MaskLRP,
    )
}


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
