"""Randomized path integration over attention: the method, its baselines, and the diffusion of the learned ones."""

from explainer.methods.rpi.baselines import AbstractBaseline as AbstractBaseline
from explainer.methods.rpi.rpi import RPI as RPI
