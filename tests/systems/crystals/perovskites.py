"""Small data of cubes: five atoms, A at the corner, B in the middle, X on the faces."""

import numpy as np

from inkwash.systems.crystals.data import Crystal

SITES = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
A, B, X = (20, 38, 56), (22, 40, 72), (8, 9)  # atomic numbers


def perovskite(a, b, x, side, name=""):
    return Crystal(side * np.eye(3), SITES, np.array([a, b, x, x, x]), {"size": side}, name)


def perovskites(count, seed=0):
    """Cubes whose side depends on their elements."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        a, b, x = (int(random.choice(choice)) for choice in (A, B, X))
        found.append(perovskite(a, b, x, 3.5 + a / 100 + b / 200 + x / 50))
    return found
