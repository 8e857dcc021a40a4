"""Clean pictures as targets, and their damaged forms as sources."""

from gqst.data import degradations
from gqst.data.sources import base
from gqst.pictures import folders

_DEFAULT = degradations.Degradation()


@base.SOURCES.register("clean", paired=True)
def clean(
    *,
    root: str,
    test: str | None = None,
    blur: tuple[float, float] = _DEFAULT.blur,
    downscale: tuple[float, float] = _DEFAULT.downscale,
    noise: tuple[float, float] = _DEFAULT.noise,
    jpeg: tuple[int, int] | None = _DEFAULT.jpeg,
) -> base.Dataset:
    """Pairs from clean pictures alone: the source is the target, damaged anew every time it is seen.

    Args:
      root: Folder of clean pictures.
      test: Folder of clean pictures for the test split.
      blur: Lowest and highest standard deviation of a Gaussian, in pixels of the training crop.
      downscale: Lowest and highest factor by which the crop is shrunk and enlarged again.
      noise: Lowest and highest standard deviation of Gaussian noise, on values in [0, 1].
      jpeg: Lowest and highest quality, 1 to 95; None skips compression.
    """
    damage = degradations.Degradation(blur=blur, downscale=downscale, noise=noise, jpeg=jpeg)

    def split(path: str, option: str) -> base.Split:
        pictures = folders.listing(path, option=option)
        return base.Split(pictures, pictures, paired=True, degrade=damage)

    return base.Dataset(train=split(root, "root"), test=None if test is None else split(test, "test"))
