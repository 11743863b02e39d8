"""Many pictures on one page."""

import numpy as np


def sheet(pictures: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (N, H, W, 3) -> one picture with `columns` in a row, 2 pixels of white between; a short row is filled."""
    rows = -(-len(pictures) // columns)
    height, width = pictures.shape[1] + 2, pictures.shape[2] + 2
    page = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        page[y : y + height - 2, x : x + width - 2] = picture
    return page
