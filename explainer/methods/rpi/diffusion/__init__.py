"""A diffusion over attention maps: learned baselines of RPI (`explainer.methods.rpi.baselines.learned`)."""

from explainer.methods.rpi.diffusion.attention import AttentionDiffusion as AttentionDiffusion
from explainer.methods.rpi.diffusion.denoiser import Condition as Condition
from explainer.methods.rpi.diffusion.schedule import Schedule as Schedule
