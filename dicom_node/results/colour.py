"""The colours of attention: a perceptually uniform ramp from violet over red to light yellow.

The ramp is a helix in OKLab (Ottosson 2020): lightness and hue grow linearly at constant chroma, so equal
steps of attention are equal steps of colour, and it still rises from dark to light when printed in grey.
"""

import numpy as np
import numpy.typing as npt

LIGHTNESS = (0.35, 0.95)
_HUE_DEGREES = (300.0, 465.0)
_CHROMA = 0.13

# Faint attention is left uncovered; above that the anatomy always shines through.
FULL_OPACITY_AT = 0.3
MAXIMUM_OPACITY = 0.5

_TO_CONE = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def ramp_oklab(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the OKLab coordinates of attention 0-1, shape (..., 3)."""
    hue = np.radians(_HUE_DEGREES[0] + (_HUE_DEGREES[1] - _HUE_DEGREES[0]) * values)
    lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * values
    return np.stack([lightness, _CHROMA * np.cos(hue), _CHROMA * np.sin(hue)], axis=-1)


def oklab_to_linear_rgb(oklab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Give the linear-light sRGB of OKLab coordinates, shape (..., 3); outside 0-1 where out of gamut."""
    return np.asarray((oklab @ _TO_CONE.T) ** 3 @ _TO_LINEAR_RGB.T)


def _encode(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Apply the sRGB transfer function (IEC 61966-2-1) to 0-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_TABLE = np.rint(
    255 * _encode(np.clip(oklab_to_linear_rgb(ramp_oklab(np.linspace(0, 1, 256))), 0, 1))
).astype(np.uint8)


def colour_attention(attention: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Colour attention on the fixed scale 0-1: sRGB of shape (..., 3); values outside are clipped."""
    return np.asarray(_TABLE[np.rint(np.clip(attention, 0, 1) * 255).astype(np.uint8)])


def overlay_attention(
    grey: npt.NDArray[np.uint8], attention: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Blend anatomy (row, column) with its attention (row, column), sRGB of shape (row, column, 3)."""
    opacity = MAXIMUM_OPACITY * np.clip(attention / FULL_OPACITY_AT, 0, 1)[..., None]
    blended = grey[..., None] * (1 - opacity) + colour_attention(attention) * opacity
    return np.asarray(np.rint(blended), dtype=np.uint8)
