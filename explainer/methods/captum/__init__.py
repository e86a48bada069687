"""What is not ours comes from captum (https://captum.ai): one method one file, on embeddings or on token ids."""

from explainer.methods.captum.forward import CaptumForward as CaptumForward
from explainer.methods.captum.gradient_shap import GradientShap as GradientShap
from explainer.methods.captum.input_x_gradient import InputTimesGradient as InputTimesGradient
from explainer.methods.captum.integrated_gradients import IntegratedGradientsMethod as IntegratedGradientsMethod
from explainer.methods.captum.kernel_shap import KernelShap as KernelShap
from explainer.methods.captum.lime import Lime as Lime
from explainer.methods.captum.occlusion import Occlusion as Occlusion
