"""A diffusion over attention maps: learned baselines of RPI (`explainer.methods.baselines.learned`)."""

from explainer.models.diffusion.attention import AttentionDiffusion as AttentionDiffusion
from explainer.models.diffusion.denoiser import Condition as Condition
from explainer.models.diffusion.schedule import Schedule as Schedule
