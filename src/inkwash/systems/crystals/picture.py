"""A crystal as a small picture: its cell and its atoms, those on faces, edges and corners on all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
from PIL import Image

from inkwash.systems.crystals.data import Crystal
from inkwash.systems.drawing import Ball, Stick, draw

AT_FACE = 0.02  # of an edge: an atom that is nearer to a face is drawn on the opposite one, too
SIZE = 0.5  # of the covalent radius
EDGE = (120, 120, 120)


def picture_of(crystal: Crystal) -> Image.Image:
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors

    balls = []
    for place, number in zip(crystal.coordinates, crystal.numbers, strict=True):
        place = np.where(place > 1 - AT_FACE, place - 1, place)
        red, green, blue = (round(255 * part) for part in jmol_colors[number])
        shifts = product(*((0, 1) if abs(x) < AT_FACE else (0,) for x in place))
        radius = SIZE * float(covalent_radii[number])
        balls += [Ball((place + shift) @ crystal.lattice, radius, (red, green, blue)) for shift in shifts]
    corners = [np.array(corner) for corner in product((0.0, 1.0), repeat=3)]
    ends = [(one, two) for one in corners for two in corners if (two - one).sum() == 1 and (two >= one).all()]
    # in eight pieces each, so that an atom covers what is behind it alone
    cuts = [(one + (two - one) * i / 8, one + (two - one) * (i + 1) / 8) for one, two in ends for i in range(8)]
    return draw(balls, [Stick(one @ crystal.lattice, two @ crystal.lattice, 0.03, EDGE) for one, two in cuts])
