"""Methods that captum (https://captum.ai) computes: one file each, on word embeddings or on the presence of tokens."""

from explainer.methods.captum.forward import CaptumForward as CaptumForward
from explainer.methods.captum.gradient_shap import GradientShap as GradientShap
from explainer.methods.captum.input_x_gradient import InputXGradient as InputXGradient
from explainer.methods.captum.integrated_gradients import IntegratedGradients as IntegratedGradients
from explainer.methods.captum.kernel_shap import KernelShap as KernelShap
from explainer.methods.captum.lime import Lime as Lime
from explainer.methods.captum.occlusion import Occlusion as Occlusion
