"""Random damage to clean pictures, for training restoration from clean pictures alone."""

import dataclasses
import io

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageFilter

from gqst import types
from gqst.pictures import decode

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Degradation:
    """Blur, down-scaling, noise and JPEG in this order, with strengths drawn anew for every picture.

    Attributes:
      blur: Lowest and highest standard deviation of a Gaussian, in pixels.
      downscale: Lowest and highest factor by which the picture is shrunk and enlarged again.
      noise: Lowest and highest standard deviation of Gaussian noise, on values in [0, 1].
      jpeg: Lowest and highest quality, 1 to 95; None skips compression.
    """

    blur: Range = (0.0, 1.5)
    downscale: Range = (1.0, 3.0)
    noise: Range = (0.0, 0.06)
    jpeg: tuple[int, int] | None = (30, 90)

    def __post_init__(self) -> None:
        """Raises InputError if a range is reversed or out of bounds."""
        bounds = {"blur": (0.0, 100.0), "downscale": (1.0, 100.0), "noise": (0.0, 1.0), "jpeg": (1, 95)}
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if value is not None and not least <= value[0] <= value[1] <= most:
                raise types.InputError(
                    f"data option {name!r} is {value}: give the lowest and the highest of {least} to {most}"
                )

    def __call__(self, picture: Float[np.ndarray, "h w 3"], rng: np.random.Generator) -> Float[np.ndarray, "h w 3"]:
        """Returns the damaged picture in [0, 1]; the number of values drawn from `rng` depends on its size alone."""
        blur, downscale, noise, quality = rng.random(4)
        grain = rng.standard_normal(picture.shape, np.float32)
        height, width = picture.shape[:2]
        image = Image.fromarray(decode.to_bytes(picture))
        image = image.filter(ImageFilter.GaussianBlur(_between(self.blur, blur)))
        factor = _between(self.downscale, downscale)
        small = max(1, round(width / factor)), max(1, round(height / factor))
        image = image.resize(small, Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.BICUBIC)
        damaged = np.asarray(image, np.float32) / np.float32(255) + np.float32(_between(self.noise, noise)) * grain
        image = Image.fromarray(decode.to_bytes(damaged))
        if self.jpeg is not None:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=round(_between(self.jpeg, quality)))
            image = Image.open(file)
        return np.asarray(image, np.float32) / np.float32(255)


def _between(ends: tuple[float, float], share: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)
