"""Tests the method's claims: the quality part on against off, same data, steps and config, several seeds.

    python tests/bench/bench_quality.py --workdir runs/claims --data FOLDER --seeds 0 1 2

FOLDER has trainA, trainB, testA and testB. Each seed is trained with and without; runs that are there are not
trained again. Written into the workdir: table.md, results.json and figure.png. The test split serves the final
figures alone.

What is asked (method: quality against off, same seed, data and steps): (1) is quality better at the end, and what does
that cost in style; (2) after how many steps does the run with the quality part stand, by held-out pictures, where the
run without it ends; (3) does the held-out value land on the target.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

import matplotlib.figure

ROOT = pathlib.Path(__file__).parents[2]
SIZE = ("image_size=64", "preprocess.load_size=64", "generator.filters=24", "generator.blocks=4")
# Without content and PatchNCE: quality alone holds the scene.
COMMON = (*SIZE, "losses.content=off", "losses.patch_nce=off")
METRICS = ("contrast_structure", "kid", "lpips", "content_retention")
# Student's t for a 95 % interval of a mean, by degrees of freedom.
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--target", type=float, default=0.75)
    flags = parser.parse_args()
    sides = {"on": [f"targets.contrast_structure={flags.target}"], "off": ["losses.structure=off"]}
    results: dict[str, list[dict]] = {side: [] for side in sides}
    for seed in flags.seeds:
        for side, changes in sides.items():
            results[side].append(one(flags, side, seed, changes))
    flags.workdir.mkdir(parents=True, exist_ok=True)
    (flags.workdir / "results.json").write_text(json.dumps(results, indent=2))
    table = tabulated(results, flags)
    (flags.workdir / "table.md").write_text(table)
    plot(results, flags)
    print(table)


def one(flags: argparse.Namespace, side: str, seed: int, changes: list[str]) -> dict:
    """Trains and evaluates one run: its rounds, and the figures of the test split."""
    folder = flags.workdir / f"{side}{seed}"
    data = ["data=folders", f"data.root={flags.data}", f"seed={seed}", f"steps={flags.steps}"]
    every = [f"round_every={flags.steps // 8}", f"checkpoint_every={flags.steps // 4}"]
    call("gqst.train", "--config", "photo2painting", "--workdir", folder, "--set", *COMMON, *data, *every, *changes)
    figures = folder / "test.json"
    if not figures.exists():
        call("gqst.evaluate", "--workdir", folder, "--checkpoint", "last", "--split", "test", "--json", figures)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rounds = [{"step": line["step"], **{m: line[f"eval/{m}"] for m in METRICS}} for line in lines if "eval/kid" in line]
    found = json.loads(figures.read_text())
    return {"seed": seed, "rounds": rounds, "test": {m: found[m] for m in METRICS}, "count": found["count"]}


def call(module: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, check=True)


def interval(values: list[float]) -> str:
    """Mean and half the width of the 95 % interval over the seeds."""
    if len(values) < 2:
        return f"{values[0]:.3g}"
    half = _T.get(len(values) - 1, 2.0) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3g} ± {half:.2g}"


def steps_to(rounds: list[dict], kid: float, structure: float) -> float:
    """The step of the first round that is as near to the style as `kid` with at least this structure."""
    met = (r["step"] for r in rounds if r["step"] and r["kid"] <= kid and r["contrast_structure"] >= structure)
    return float(next(met, math.inf))


def tabulated(results: dict[str, list[dict]], flags: argparse.Namespace) -> str:
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
    reached = []
    for on, off in pairs:
        last = off["rounds"][-1]
        reached.append(steps_to(on["rounds"], last["kid"], last["contrast_structure"]))
    shown = ", ".join("never" if math.isinf(step) else f"{step:.0f}" for step in reached)
    lines += ["", f"Steps until on has the off-run's final held-out KID and structure at once, by seed: {shown}."]
    landed = [abs(on["rounds"][-1]["contrast_structure"] - flags.target) for on, _ in pairs]
    lines.append(f"Distance of the last held-out contrast_structure from the target, by seed: {landed}.")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, list[dict]], flags: argparse.Namespace) -> None:
    """Held-out structure and KID by step, a line for each run."""
    figure = matplotlib.figure.Figure(figsize=(9, 3.6), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("contrast_structure", "kid"), strict=True):
        for side, color in (("on", "C0"), ("off", "C3")):
            for run in results[side]:
                steps, values = zip(*((r["step"], r[metric]) for r in run["rounds"]), strict=True)
                label = f"quality {side}" if run is results[side][0] else None
                axes.plot(steps, values, color=color, label=label)
        if metric == "contrast_structure":
            axes.axhline(flags.target, color="0.6", linestyle="--", label="target")
        axes.set_xlabel("step")
        axes.set_ylabel(f"held-out {metric}")
        axes.legend()
    figure.savefig(flags.workdir / "figure.png", dpi=120)


if __name__ == "__main__":
    main()
