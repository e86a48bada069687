"""Layer-wise relevance propagation as gradient rules."""

from explainer.methods.lrp.base import AbstractLRP as AbstractLRP
from explainer.methods.lrp.rules import lrp_rules as lrp_rules
