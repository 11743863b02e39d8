"""What is asked of a trained model beyond samples: how likely data are, and exact conditioning by particles."""

from inkwash.inference.likelihood import bits_per_dimension, log_likelihood, variational_bound
from inkwash.inference.particles import Particles, particles

__all__ = ["Particles", "bits_per_dimension", "log_likelihood", "particles", "variational_bound"]
