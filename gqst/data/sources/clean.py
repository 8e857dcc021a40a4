"""Clean pictures, whose damaged forms are the sources."""

from gqst.data import degradations
from gqst.data.sources import base, paths

_USUAL = degradations.Degradation()


@base.SOURCES.register("clean")
def clean(
    *,
    root: str,
    test: str | None = None,
    blur: tuple[float, float] = _USUAL.blur,
    downscale: tuple[float, float] = _USUAL.downscale,
    noise: tuple[float, float] = _USUAL.noise,
    jpeg: tuple[int, int] | None = _USUAL.jpeg,
) -> base.Dataset:
    """Pairs from clean pictures alone: the source is the target, damaged anew every time it is seen.

    Args:
      root: a folder of clean pictures.
      test: a folder of clean pictures for the test split.
      blur: lowest and highest deviation of a Gaussian, in pixels of the training crop.
      downscale: lowest and highest factor by which it is made smaller and large again.
      noise: lowest and highest deviation of Gaussian noise, of values in [0, 1].
      jpeg: lowest and highest quality, 1 to 95; None compresses nothing.
    """
    damage = degradations.Degradation(blur=blur, downscale=downscale, noise=noise, jpeg=jpeg)

    def split(path: str, option: str) -> base.Split:
        pictures = paths.listing(path, option=option)
        return base.Split(pictures, pictures, paired=True, degrade=damage)

    return base.Dataset(train=split(root, "root"), test=None if test is None else split(test, "test"))
