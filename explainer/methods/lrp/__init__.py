"""Layer-wise relevance propagation as gradient rules."""

from explainer.methods.lrp.chefer import Masked as Masked
from explainer.methods.lrp.chefer import chefer_rules as chefer_rules
from explainer.methods.lrp.rules import attn_lrp_rules as attn_lrp_rules
