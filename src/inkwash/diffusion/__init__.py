"""Diffusion, written once: it knows no kind of data, and imports torch only where a network is trained.

Read in this order: `schedule` (how much signal, how much noise), `process` (what noise does to a state), `denoiser`
(what a network predicts), `losses` (how it learns that), `grid` (at which times to step), `samplers` and `multistep`
(how to step), `guides` (how to steer), `likelihood` (how likely data are), `noise` (one seed, one picture), `driver`
(the only loop there is).
"""

from inkwash.diffusion.denoiser import PARAMETRIZATIONS as PARAMETRIZATIONS
from inkwash.diffusion.denoiser import Denoiser as Denoiser
from inkwash.diffusion.denoiser import Parametrization as Parametrization
from inkwash.diffusion.denoiser import Prediction as Prediction
from inkwash.diffusion.denoiser import edm as edm
from inkwash.diffusion.denoiser import log_ratio as log_ratio
from inkwash.diffusion.denoiser import thousands as thousands
from inkwash.diffusion.driver import sample as sample
from inkwash.diffusion.errors import DiffusionError as DiffusionError
from inkwash.diffusion.grid import Grid as Grid
from inkwash.diffusion.grid import beta as beta
from inkwash.diffusion.grid import karras as karras
from inkwash.diffusion.grid import leading as leading
from inkwash.diffusion.grid import log_snr as log_snr
from inkwash.diffusion.grid import trailing as trailing
from inkwash.diffusion.grid import uniform as uniform
from inkwash.diffusion.guides import adaptive_projected as adaptive_projected
from inkwash.diffusion.guides import autoguidance as autoguidance
from inkwash.diffusion.guides import classifier as classifier
from inkwash.diffusion.guides import classifier_free as classifier_free
from inkwash.diffusion.guides import dynamic_threshold as dynamic_threshold
from inkwash.diffusion.guides import known_region as known_region
from inkwash.diffusion.guides import measurement as measurement
from inkwash.diffusion.guides import static_threshold as static_threshold
from inkwash.diffusion.likelihood import bits_per_dimension as bits_per_dimension
from inkwash.diffusion.likelihood import log_likelihood as log_likelihood
from inkwash.diffusion.likelihood import variational_bound as variational_bound
from inkwash.diffusion.losses import LossAware as LossAware
from inkwash.diffusion.losses import edm_weight as edm_weight
from inkwash.diffusion.losses import flow_weight as flow_weight
from inkwash.diffusion.losses import log_normal as log_normal
from inkwash.diffusion.losses import logit_normal as logit_normal
from inkwash.diffusion.losses import min_snr as min_snr
from inkwash.diffusion.losses import p2 as p2
from inkwash.diffusion.losses import simple as simple
from inkwash.diffusion.losses import uniform_times as uniform_times
from inkwash.diffusion.losses import vlb as vlb
from inkwash.diffusion.multistep import deis as deis
from inkwash.diffusion.multistep import dpmpp_2m as dpmpp_2m
from inkwash.diffusion.multistep import dpmpp_2m_sde as dpmpp_2m_sde
from inkwash.diffusion.multistep import dpmpp_2s as dpmpp_2s
from inkwash.diffusion.multistep import dpmpp_3m as dpmpp_3m
from inkwash.diffusion.multistep import lms as lms
from inkwash.diffusion.multistep import unipc as unipc
from inkwash.diffusion.noise import Noise as Noise
from inkwash.diffusion.process import Gaussian as Gaussian
from inkwash.diffusion.process import Normal as Normal
from inkwash.diffusion.samplers import Ask as Ask
from inkwash.diffusion.samplers import Step as Step
from inkwash.diffusion.samplers import ancestral as ancestral
from inkwash.diffusion.samplers import ddim as ddim
from inkwash.diffusion.samplers import ddim_inversion as ddim_inversion
from inkwash.diffusion.samplers import dpm2 as dpm2
from inkwash.diffusion.samplers import euler as euler
from inkwash.diffusion.samplers import euler_ancestral as euler_ancestral
from inkwash.diffusion.samplers import heun as heun
from inkwash.diffusion.samplers import predictor_corrector as predictor_corrector
from inkwash.diffusion.samplers import repaint as repaint
from inkwash.diffusion.schedule import Point as Point
from inkwash.diffusion.schedule import Schedule as Schedule
from inkwash.diffusion.schedule import betas as betas
from inkwash.diffusion.schedule import cosine as cosine
from inkwash.diffusion.schedule import edm_schedule as edm_schedule
from inkwash.diffusion.schedule import linear_beta as linear_beta
from inkwash.diffusion.schedule import rectified_flow as rectified_flow
from inkwash.diffusion.schedule import scaled_linear as scaled_linear
from inkwash.diffusion.schedule import sigmoid as sigmoid
from inkwash.diffusion.schedule import sqrt as sqrt
from inkwash.diffusion.schedule import sub_vp as sub_vp
from inkwash.diffusion.schedule import variance_exploding as variance_exploding
from inkwash.diffusion.schedule import zero_terminal_snr as zero_terminal_snr
