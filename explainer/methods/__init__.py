"""Attribution methods: they read the explained model and leave it equal to the bit.

A method is one file and one import line here, which puts it into `METHODS`. Methods by name, with settings, come from
`explainer.methods.loading.load_method`.
"""

import inspect

from explainer.methods.base import AbstractMethod as AbstractMethod
from explainer.methods.rpi.baselines import AbstractBaseline as AbstractBaseline

# In the order of the tables: the control first, then by what a method costs and reads.
# isort: off
from explainer.methods.random import Random as Random
from explainer.methods.captum import InputXGradient as InputXGradient
from explainer.methods.captum import IntegratedGradients as IntegratedGradients
from explainer.methods.captum import GradientShap as GradientShap
from explainer.methods.deep_lift import DeepLift as DeepLift
from explainer.methods.attention import AttentionRollout as AttentionRollout
from explainer.methods.attention import MeanAttention as MeanAttention
from explainer.methods.attention import GAE as GAE
from explainer.methods.attention import AttCAT as AttCAT
from explainer.methods.lrp import AttnLRP as AttnLRP
from explainer.methods.lrp import CPLRP as CPLRP
from explainer.methods.lrp import MaskLRP as MaskLRP
from explainer.methods.rpi import RPI as RPI
from explainer.methods.sig import SIG as SIG
from explainer.methods.leave_one_out import LeaveOneOut as LeaveOneOut
from explainer.methods.captum import Occlusion as Occlusion
from explainer.methods.captum import Lime as Lime
from explainer.methods.captum import KernelShap as KernelShap
from explainer.methods.context_cite import ContextCite as ContextCite
from explainer.methods.subset_regression import SubsetRegression as SubsetRegression
from explainer.methods.greedy import GreedyDeletion as GreedyDeletion
from explainer.methods.greedy import GreedyKeeping as GreedyKeeping
# isort: on

METHODS: dict[str, type[AbstractMethod]] = {
    kind.name: kind
    for kind in list(globals().values())
    if inspect.isclass(kind) and issubclass(kind, AbstractMethod) and not inspect.isabstract(kind)
}
"""Every method by its name."""
