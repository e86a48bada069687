"""The attributor, and what stands around a call: inputs, locks, compilation, trust, the pipeline."""

from explainer.attributor.attributor import Attributor as Attributor
