"""Colours of PNGs without an ICC profile that are not those of sRGB: what cICP or cHRM and gAMA say, as a profile."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from inkwash.errors import UserError

Chromaticity = tuple[float, ...]  # x, y of white, red, green and blue
D65, D50 = (0.3127, 0.329), (0.9642, 1.0, 0.8249)  # x, y; and the XYZ of a profile's white
SRGB = (*D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
PRIMARIES = {  # by their numbers in ITU-T H.273: BT.709, BT.2020, DCI-P3 and Display P3
    1: SRGB,
    9: (*D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
VALUES = np.linspace(0, 1, 1024)  # of which a profile's curve is a table


def linear_of_srgb(v: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


CURVES = {4: VALUES**2.2, 5: VALUES**2.8, 8: VALUES, 13: linear_of_srgb(VALUES)}  # by their numbers in H.273
CURVES |= dict.fromkeys((1, 6, 14, 15), CURVES[13])  # of cameras: shown as sRGB by every viewer


def read_cicp(file: IO[bytes]) -> bytes | None:
    """The cICP of a PNG (third edition, 11.3.2.6), which lies before its pixels; the file stays where it was."""
    position = file.tell()
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"cICP":
                return file.read(length)
            file.seek(length + 4, 1)
        return None
    finally:
        file.seek(position)


def profile_of(info: Mapping[Any, Any]) -> bytes | None:
    """The ICC profile of what a PNG says of its colours: by cICP, or else by cHRM, unless it has an ICC profile, or
    sRGB, of its own. None for sRGB, whatever its gamma, and for primaries that are none.

    UserError for a cICP that is not read here, as of pictures of a high dynamic range.
    """
    cicp, chromaticity, gamma = info.get("cicp"), info.get("chromaticity", SRGB), 2.2 * info.get("gamma", 1 / 2.2)
    if cicp is not None:
        primaries, transfer, *others = cicp
        if primaries not in PRIMARIES or transfer not in CURVES or others != [0, 1]:
            kind = "a high dynamic range" if transfer in (16, 18) else "colours that are not read here"
            raise UserError(f"it has {kind} (cICP {', '.join(map(str, cicp))}): save it in sRGB")
        chromaticity, curve = PRIMARIES[primaries], CURVES[transfer]
        if chromaticity == SRGB and curve is CURVES[13]:
            return None
    elif "srgb" in info or info.get("icc_profile") or np.allclose(chromaticity, SRGB, atol=0.002):
        return None
    else:
        curve = CURVES[13] if gamma == 0 or abs(gamma - 1) < 0.05 else VALUES ** (2.2 / gamma)
    try:
        return icc_profile(chromaticity, curve)
    except (ZeroDivisionError, np.linalg.LinAlgError, struct.error):
        return None


def icc_profile(chromaticity: Chromaticity, curve: np.ndarray) -> bytes:
    """A profile of three primaries and one curve, from values to light (ICC.1:2001-04), its white adapted to D50 as
    Bradford does. Raises ZeroDivisionError, LinAlgError or struct.error for primaries that are none."""
    white, *lights = (xyz(x, y) for x, y in zip(chromaticity[::2], chromaticity[1::2], strict=True))
    columns = np.stack(lights, axis=1)
    to_xyz = columns * np.linalg.solve(columns, white)
    adaptation = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD)
    colorants = [b"XYZ \0\0\0\0" + fixed(column) for column in (adaptation @ to_xyz).T]
    table = (curve * 65535).round().astype(">u2").tobytes()
    tone = b"curv\0\0\0\0" + struct.pack(">I", len(curve)) + table
    contents = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), colorants, strict=True)) | {
        b"wtpt": b"XYZ \0\0\0\0" + fixed(D50), **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone)
    }  # fmt: skip
    directory, data = struct.pack(">I", len(contents)), b""
    for name, content in contents.items():
        directory += struct.pack(">4s2I", name, 132 + 12 * len(contents) + len(data), len(content))
        data += content
    head = b"\2\x40\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + fixed(D50) + bytes(48)
    return struct.pack(">2I", 132 + len(directory) - 4 + len(data), 0) + head + directory + data


def xyz(x: float, y: float) -> np.ndarray:
    """The light of a chromaticity, Y being 1."""
    return np.array([x / y, 1.0, (1 - x - y) / y])


def fixed(values: Any) -> bytes:
    """Numbers as s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
