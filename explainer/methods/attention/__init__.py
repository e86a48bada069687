"""Methods that read attention weights, with and without their gradients."""

from explainer.methods.attention.attcat import AttCAT as AttCAT
from explainer.methods.attention.attention_rollout import AttentionRollout as AttentionRollout
from explainer.methods.attention.gae import GAE as GAE
from explainer.methods.attention.mean_attention import MeanAttention as MeanAttention
