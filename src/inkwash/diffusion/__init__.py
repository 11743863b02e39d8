"""Diffusion, written once: it knows no kind of data, and imports torch only where a network is trained.

Read in this order: `schedule` (how much signal, how much noise), `process` and `categorical` (what noise does to
numbers and to tokens), `denoiser` (what a network predicts), `losses` (how it learns that), `grid` (at which times to
step), `samplers` and `multistep` (how to step), `guides` (how to steer), `likelihood` (how likely data are), `noise`
(one seed, one picture), `driver` (the only loop there is), `particles` (exact conditioning).
"""

from inkwash.diffusion.categorical import Categorical, Choice
from inkwash.diffusion.denoiser import PARAMETRIZATIONS, Denoiser, Parametrization, TokenDenoiser, edm, log_ratio
from inkwash.diffusion.denoiser import thousands
from inkwash.diffusion.driver import sample
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import Grid, beta, karras, leading, log_snr, trailing, uniform
from inkwash.diffusion.guides import adaptive_projected, ascent, autoguidance, classifier, classifier_free
from inkwash.diffusion.guides import dynamic_threshold, first_order, known_region, measurement, rounding
from inkwash.diffusion.guides import static_threshold
from inkwash.diffusion.likelihood import bits_per_dimension, log_likelihood, variational_bound
from inkwash.diffusion.losses import LossAware, cross_entropy, d3pm_bound, edm_weight, flow_weight, log_normal
from inkwash.diffusion.losses import logit_normal, min_snr, p2, simple, uniform_times, vlb
from inkwash.diffusion.multistep import deis, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_3m, lms, tabled, unipc
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.particles import Particles, particles
from inkwash.diffusion.process import Balanced, Centred, Gaussian, Normal, Prediction, Torus, Wrapped, centred
from inkwash.diffusion.samplers import Ask, Step, ancestral, ddim, ddim_inversion, dpm2, euler, euler_ancestral, heun
from inkwash.diffusion.samplers import predictor_corrector, repaint, unmask
from inkwash.diffusion.schedule import Point, Schedule, betas, cosine, edm_schedule, linear_beta, rectified_flow
from inkwash.diffusion.schedule import scaled_linear, sigmoid, sqrt, sub_vp, variance_exploding, zero_terminal_snr
