"""Layer-wise relevance propagation as gradient rules."""

from explainer.methods.lrp.rules import attn_lrp_rules as attn_lrp_rules
