"""DeepLIFT and its rules for the operations of a transformer."""

from explainer.methods.deep_lift.deep_lift import DeepLift as DeepLift
