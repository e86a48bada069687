"""DeepLIFT, with a rule for every operation of a transformer."""

from explainer.methods.deep_lift.deep_lift import DeepLift as DeepLift
