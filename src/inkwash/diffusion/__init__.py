"""Diffusion, written once: it knows no kind of data, and imports torch only where a network is trained.

Read in this order: `schedule` (how much signal, how much noise), `process` (what noise does to a state), `denoiser`
(what a network predicts), `grid` (at which times to step), `samplers` (how to step), `guides` (how to steer),
`noise` (one seed, one picture), `driver` (the only loop there is).
"""

from inkwash.diffusion.denoiser import PARAMETRIZATIONS, Denoiser, Prediction, min_snr, simple, uniform_times
from inkwash.diffusion.driver import sample
from inkwash.diffusion.grid import Grid, karras, leading, trailing, uniform
from inkwash.diffusion.guides import classifier_free, dynamic_threshold, known_region, static_threshold
from inkwash.diffusion.noise import Noise
from inkwash.diffusion.process import Gaussian, Normal
from inkwash.diffusion.samplers import Ask, Step, ancestral, ddim, dpmpp_2m, euler
from inkwash.diffusion.schedule import Point, Schedule, betas, cosine, linear_beta, rectified_flow

__all__ = [
    "PARAMETRIZATIONS",
    "Ask",
    "Denoiser",
    "Gaussian",
    "Grid",
    "Noise",
    "Normal",
    "Point",
    "Prediction",
    "Schedule",
    "Step",
    "ancestral",
    "betas",
    "classifier_free",
    "cosine",
    "ddim",
    "dpmpp_2m",
    "dynamic_threshold",
    "euler",
    "karras",
    "known_region",
    "leading",
    "linear_beta",
    "min_snr",
    "rectified_flow",
    "sample",
    "simple",
    "static_threshold",
    "trailing",
    "uniform",
    "uniform_times",
]
