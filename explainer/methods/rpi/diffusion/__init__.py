"""A diffusion over attention, from which RPI's learned baselines are drawn (`baselines.learned`)."""

from explainer.methods.rpi.diffusion.attention import AttentionDiffusion as AttentionDiffusion
from explainer.methods.rpi.diffusion.denoiser import Condition as Condition
from explainer.methods.rpi.diffusion.schedule import Schedule as Schedule
