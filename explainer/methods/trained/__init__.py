"""Trained explainers as attribution methods."""

from explainer.methods.trained.amortized import Amortized as Amortized
from explainer.methods.trained.refined import Refined as Refined
