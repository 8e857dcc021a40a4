"""Tests the method's claims: the quality part on against off, and targets against what comes out.

    python tests/bench/bench_quality.py --workdir runs/claims --data FOLDER

FOLDER has trainA, trainB, testA and testB. Runs that are there are not trained again. Written into the workdir:
table.md, results.json and figure.png. The test split serves the final figures alone.

Every run has the same config but for what is said: photo2painting, small, from a random start and without content and
PatchNCE, so that nothing but the quality part holds the scene. What is asked (quality on against off, same seeds,
data and steps): (1) is quality better at the end, and what does that cost in style; (2) after how many steps does the
run with the quality part stand, by held-out pictures, where the run without it ends; (3) does the held-out value land
on the target, for several targets.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

import matplotlib.axes
import matplotlib.figure

ROOT = pathlib.Path(__file__).parents[2]
COMMON = (
    *("image_size=64", "preprocess.load_size=64", "generator.filters=24", "generator.blocks=4"),
    *("generator.start_at_identity=False", "losses.content=off", "losses.patch_nce=off", "losses.style.weight=0.5"),
    *("losses.structure.weight=1", "control.gain=8", "ema_decay=0.99", "metrics=['kid']", "round_size=None"),
)
METRICS = ("contrast_structure", "kid", "lpips", "content_retention")
ROUNDS = 25
# Student's t for a 95 % interval of a mean, by degrees of freedom.
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--target", type=float, default=0.6, help="of the runs with the quality part")
    parser.add_argument("--targets", type=float, nargs="*", default=[0.45, 0.6, 0.75], help="of claim 3, first seed")
    flags = parser.parse_args()
    flags.workdir.mkdir(parents=True, exist_ok=True)
    first = flags.seeds[0]
    aimed = {target: one(flags, first, target) for target in flags.targets}
    results = {
        "on": [one(flags, seed, flags.target) for seed in flags.seeds],
        "off": [one(flags, seed, None) for seed in flags.seeds],
    }
    (flags.workdir / "results.json").write_text(json.dumps({**results, "targets": aimed}, indent=2))
    table = tabulated(results, aimed, flags)
    (flags.workdir / "table.md").write_text(table)
    plot(results, aimed, flags)
    print(table)


def one(flags: argparse.Namespace, seed: int, target: float | None) -> dict:
    """Trains and evaluates a run with a target, or without the quality part: its rounds, and its test figures."""
    folder = flags.workdir / (f"off-seed{seed}" if target is None else f"target{target:g}-seed{seed}")
    data = ["data=folders", f"data.root={flags.data}", f"seed={seed}", f"steps={flags.steps}"]
    every = [f"round_every={flags.steps // ROUNDS}", f"checkpoint_every={flags.steps // 4}"]
    quality = "losses.structure=off" if target is None else f"targets.contrast_structure={target}"
    figures = folder / "test.json"
    if not figures.exists():
        call("gqst.train", "--config", "photo2painting", "--workdir", folder, "--set", *COMMON, *data, *every, quality)
        chosen = ["--checkpoint", "last", "--split", "test", "--no-baselines"]
        call("gqst.evaluate", "--workdir", folder, *chosen, "--json", figures)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    held = METRICS[:2]
    rounds = [{"step": line["step"], **{m: line[f"eval/{m}"] for m in held}} for line in lines if "eval/kid" in line]
    found = json.loads(figures.read_text())
    late = [line["loss/style"] for line in lines if "loss/style" in line and line["step"] > 0.75 * flags.steps]
    return {
        "rounds": rounds,
        "style": statistics.mean(late),
        "test": {m: found[m] for m in METRICS},
        "count": found["count"],
    }


def call(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, check=True)


def interval(values: list[float]) -> str:
    """Mean and half the width of the 95 % interval over the seeds."""
    if len(values) < 2:
        return f"{values[0]:.3g}"
    half = _T.get(len(values) - 1, 2.0) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3g} ± {half:.2g}"


def steps_to(rounds: list[dict], value: float, metric: str, better: int) -> float:
    """The step of the first round at which the metric is as good as this."""
    met = (r["step"] for r in rounds if r["step"] and better * r[metric] >= better * value)
    return float(next(met, math.inf))


def tabulated(results: dict[str, list[dict]], aimed: dict[float, dict], flags: argparse.Namespace) -> str:
    """The outcome in Markdown."""
    pairs = list(zip(results["on"], results["off"], strict=True))
    count = results["on"][0]["count"]
    lines = [
        f"Test split ({count} pictures), last checkpoint of {flags.steps} steps, seeds {flags.seeds}; mean ± 95 % "
        f"interval over seeds. Quality on: target contrast_structure {flags.target}.",
        "",
        "| metric | on | off | on - off |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        on, off = ([r["test"][metric] for r in results[side]] for side in ("on", "off"))
        gap = [a - b for a, b in zip(on, off, strict=True)]
        lines.append(f"| {metric} | {interval(on)} | {interval(off)} | {interval(gap)} |")
    for metric, better in (("contrast_structure", 1), ("kid", -1)):
        reached = [steps_to(on["rounds"], off["rounds"][-1][metric], metric, better) for on, off in pairs]
        shown = ", ".join("never" if math.isinf(step) else f"{step:.0f}" for step in reached)
        lines += ["", f"Steps until on has the off-run's final held-out {metric}, by seed: {shown}."]
    lines += [
        "",
        "Held-out contrast_structure of the last round; KID and the training loss `style` over the last quarter.",
        "",
        "| target | held-out contrast_structure | held-out KID | style | test contrast_structure | test KID |",
        "|---|---|---|---|---|---|",
    ]
    for target, run in aimed.items():
        rounds, test = run["rounds"], run["test"]
        kid = statistics.mean(r["kid"] for r in rounds if r["step"] > 0.75 * flags.steps)
        held = f"{rounds[-1]['contrast_structure']:.3f} | {kid:.1f} | {run['style']:.3f}"
        lines.append(f"| {target:g} | {held} | {test['contrast_structure']:.3f} | {test['kid']:.1f} |")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, list[dict]], aimed: dict[float, dict], flags: argparse.Namespace) -> None:
    """Held-out structure and KID by step: on against off, and the targets."""
    figure = matplotlib.figure.Figure(figsize=(12, 3.6), layout="constrained")
    structure, kid, targets = figure.subplots(1, 3)
    for axes, metric in ((structure, "contrast_structure"), (kid, "kid")):
        for side, color in (("on", "C0"), ("off", "C3")):
            for run in results[side]:
                label = f"quality {side}" if run is results[side][0] else None
                draw(axes, run, metric, color=color, label=label)
        axes.set_ylabel(f"held-out {metric}")
    structure.axhline(flags.target, color="C0", linestyle=":")
    for (target, run), color in zip(aimed.items(), ("C4", "C0", "C2", "C1"), strict=False):
        draw(targets, run, "contrast_structure", color=color, label=f"target {target:g}")
        targets.axhline(target, color=color, linestyle=":")
    targets.set_ylabel("held-out contrast_structure")
    for axes in (structure, kid, targets):
        axes.set_xlabel("step")
        axes.legend()
    kid.set_yscale("log")
    figure.savefig(flags.workdir / "figure.png", dpi=120)


def draw(axes: matplotlib.axes.Axes, run: dict, metric: str, **how: object) -> None:
    steps, values = zip(*((r["step"], r[metric]) for r in run["rounds"]), strict=True)
    axes.plot(steps, values, **how)


if __name__ == "__main__":
    main()
