"""The attributor, and the parts of a call: inputs, options, locks, compilation, units, trust, saving, the pipeline."""

from explainer.attributor.attributor import Attributor as Attributor
from explainer.attributor.images import ImageAttributor as ImageAttributor
from explainer.attributor.options import CallOptions as CallOptions
from explainer.attributor.response_inputs import ResponseInput as ResponseInput
from explainer.attributor.responses import ResponseAttributor as ResponseAttributor
from explainer.attributor.responses import ResponseOptions as ResponseOptions
from explainer.attributor.trust import Fallback as Fallback
