"""Diffusion, written once: it knows no kind of data, and imports torch only where a network is trained.

Read in this order: `schedule` (how much signal, how much noise), `process` and `categorical` (what noise does to
numbers and to tokens), `parametrization` (what a network predicts), `denoiser` (the clean state of it), `losses`
(how it learns), `grid` (at which times to step), `samplers` and `multistep` (how to step), `guides` (how to steer),
`noise` (one seed, one picture), `driver` (the only loop there is). `options` and `arrays` serve them all.
"""

from inkwash.diffusion.categorical import Categorical, CategoricalDistribution
from inkwash.diffusion.denoiser import Denoiser, quarter_log_sigma, thousands
from inkwash.diffusion.driver import sample
from inkwash.diffusion.errors import DiffusionError
from inkwash.diffusion.grid import GRIDS, Grid, align_your_steps, beta, ddim_uniform, exponential, karras, kl_optimal
from inkwash.diffusion.grid import leading, linear_quadratic, normal, sgm_uniform, simple, trailing, uniform
from inkwash.diffusion.guides import adaptive_projected, allowed_symbols, analytic_variance, autoguidance, classifier
from inkwash.diffusion.guides import (
    classifier_free,
    dps,
    dynamic_threshold,
    gradient_control,
    known_region,
    on,
    rounding,
)
from inkwash.diffusion.guides import static_threshold, tiled, token_gradient, x0_guide
from inkwash.diffusion.losses import (
    Term,
    absolute,
    cross_entropy,
    d3pm_bound,
    edm_weight,
    flow_weight,
    log_normal,
    logit_normal,
)
from inkwash.diffusion.losses import min_snr, p2, square, symbols_cross_entropy, uniform_times, unit, vlb
from inkwash.diffusion.multistep import deis, dpm_solver_2m, dpmpp_2m, dpmpp_2m_sde, dpmpp_2s, dpmpp_3m, dpmpp_3m_sde
from inkwash.diffusion.multistep import lms, unipc
from inkwash.diffusion.noise import Noise, child_seed
from inkwash.diffusion.parametrization import PARAMETRIZATIONS, Parametrization, edm
from inkwash.diffusion.process import Gaussian, Normal, Prediction, Process, Torus, WrappedNormal, ZeroCoM
from inkwash.diffusion.process import ZeroCoMNormal, centred
from inkwash.diffusion.samplers import ModelCall, StepResult, ancestral, annealed_langevin, consistency, ddim
from inkwash.diffusion.samplers import ddim_inversion, ddim_step_eps, ddim_step_x0, ddim_transition, dpm2, dpmpp_sde
from inkwash.diffusion.samplers import eps_from_x0, euler, euler_ancestral, flow_heun, flow_midpoint, flow_step, heun
from inkwash.diffusion.samplers import predictor_corrector, repaint, sampler, unmask
from inkwash.diffusion.schedule import SCHEDULES, Formulas, NoiseLevel, Schedule, betas, cosine, edm_schedule
from inkwash.diffusion.schedule import flux_shift, linear_beta, rectified_flow, scaled_linear, schedule, sigmoid, sqrt
from inkwash.diffusion.schedule import sub_vp, variance_exploding, zero_terminal_snr

SAMPLERS = {
    f.__name__: f
    for f in (
        *(ancestral, ddim, euler, euler_ancestral, heun, dpm2, flow_heun, flow_midpoint, dpm_solver_2m, dpmpp_2m),
        *(dpmpp_2m_sde, dpmpp_2s, dpmpp_3m, dpmpp_3m_sde, dpmpp_sde, unipc, deis, lms, consistency),
        *(predictor_corrector, annealed_langevin, repaint, ddim_inversion, unmask),
    )
}
