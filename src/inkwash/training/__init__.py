"""Training: one loop for every system, its recipes, its batches."""

from inkwash.training.data import batches
from inkwash.training.fit import Settings, fit
from inkwash.training.recipe import load_recipe

__all__ = ["Settings", "batches", "fit", "load_recipe"]
