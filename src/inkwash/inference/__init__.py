"""Inference with a trained chain beside sampling: how likely data are, and samples given a part or a reward.

It wraps the core, `inkwash.diffusion`, and imports nothing else of inkwash.
"""

from inkwash.inference.likelihood import bits_per_dimension, log_likelihood, variational_bound
from inkwash.inference.particles import Disagreement, Particles, disagreement, particles, residual_systematic
