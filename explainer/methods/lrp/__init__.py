"""Layer-wise relevance propagation as gradient rules, and the methods that use them."""

from explainer.methods.lrp.attn_lrp import AttnLRP as AttnLRP
from explainer.methods.lrp.base import AbstractLRP as AbstractLRP
from explainer.methods.lrp.chefer import Masked as Masked
from explainer.methods.lrp.chefer import chefer_rules as chefer_rules
from explainer.methods.lrp.cp_lrp import CPLRP as CPLRP
from explainer.methods.lrp.mask_lrp import MaskLRP as MaskLRP
from explainer.methods.lrp.rules import lrp_rules as lrp_rules
