"""`python -m gqst.evaluate`: measures a trained generator, or folders of pictures."""

import argparse

from gqst import cli


def main(argv: list[str] | None = None) -> None:
    """Parses the flags, measures the pictures, and prints a table."""
    parser = argparse.ArgumentParser(
        prog="python -m gqst.evaluate",
        description=(
            "Measures the quality of pictures: of a run's generator on a split of its data (--workdir), or of a "
            "folder of pictures that came from anywhere (--outputs)."
        ),
    )
    pictures = parser.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--workdir", type=cli.place, help="folder of a run")
    pictures.add_argument("--outputs", metavar="DIR", help="folder of the pictures to measure")
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="data.KEY=VALUE",
        help="where the run's data is now, as in data.root=NEW; the run's files stay as they are",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation", "train"),
        help="split of the run's data (default: test, or validation if there is no test split)",
    )
    parser.add_argument(
        "--references",
        metavar="DIR|FILE.npz",
        help=(
            "pictures of the style, or truths, which are matched with the outputs by name (--paired, --unpaired); "
            "or a .npz file of the style's statistics"
        ),
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--paired",
        action="store_true",
        default=None,
        help="the references are truths, matched with the outputs by name (default: if more than half of the outputs "
        "have one of their name)",
    )
    kind.add_argument(
        "--unpaired",
        dest="paired",
        action="store_false",
        help="the references are a set of pictures of the style, whatever their names",
    )
    parser.add_argument(
        "--save-statistics",
        type=cli.place,
        metavar="FILE.npz",
        help="write the statistics of the style, for --references of later evaluations",
    )
    parser.add_argument("--sources", metavar="DIR", help="sources of the outputs, matched by name")
    parser.add_argument(
        "--size",
        type=cli.pixels,
        nargs="+",
        metavar="PX",
        help="side, or height and width, to which pictures are scaled and cropped (default: the first output's)",
    )
    parser.add_argument(
        "--network",
        choices=("efficientnet_lite0", "inception_v3"),
        default="efficientnet_lite0",
        help="feature network of kid and frechet (default: efficientnet_lite0, which comes with gqst)",
    )
    parser.add_argument(
        "--network-weights",
        metavar="FILE",
        help=(
            "weights of inception_v3 as .safetensors or .npz with torchvision's names; those of pytorch-fid give the "
            "published FID"
        ),
    )
    parser.add_argument("--no-baselines", action="store_true", help="measure the outputs alone")
    parser.add_argument("--json", type=cli.place, metavar="FILE", help="write all results as JSON")
    parser.add_argument("--csv", type=cli.place, metavar="FILE", help="write the metrics of every picture as CSV")
    cli.add_import_flag(parser)
    cli.add_process_flags(parser)
    flags = parser.parse_args(argv)
    if wrong := [text for text in flags.set if flags.workdir is None or not text.startswith("data.")]:
        parser.error(f"--set {wrong[0]}: only keys of data of a run (--workdir) can be set here")
    if flags.workdir is not None and (flags.references or flags.sources or flags.size or flags.paired is not None):
        parser.error("--references, --sources, --size, --paired and --unpaired go with --outputs")
    if flags.save_statistics is not None and flags.save_statistics.suffix != ".npz":
        parser.error("--save-statistics takes a file that ends in .npz")
    if flags.size is not None and len(flags.size) > 2:
        parser.error("--size takes one number or two")

    from gqst.runtime import processes

    cli.use_compilation_cache()
    cli.import_members(flags.imports)
    with processes.joined(cli.group(flags)):
        _evaluate(flags)


def _evaluate(flags: argparse.Namespace) -> None:
    import gqst
    from gqst import overrides
    from gqst.evaluation import comparisons, evaluator, table
    from gqst.runtime import processes

    def comparison_of_flags() -> comparisons.Comparison:
        if flags.workdir is None:
            return comparisons.from_folders(
                flags.outputs, flags.references, flags.sources, size=flags.size, paired=flags.paired
            )
        generator = gqst.load_generator(flags.workdir, which=flags.checkpoint)
        about: dict[str, str | int] = {"run": str(flags.workdir), "checkpoint": generator.step}
        if flags.set:
            about["data"] = " ".join(flags.set)
        cfg = overrides.override(generator.config, flags.set)
        return comparisons.from_generator(generator, cfg, about=about, split=flags.split)

    comparison = processes.run_on_all(comparison_of_flags)
    results = evaluator.evaluate(
        comparison,
        network=flags.network,
        weights=flags.network_weights,
        with_baselines=not flags.no_baselines,
        save=flags.save_statistics,
    )
    if not processes.is_first():
        return
    about = {**comparison.about, "network": flags.network}
    # Written before they are printed, so that no console can lose them.
    if flags.json is not None:
        table.write_json(flags.json, about, results)
    if flags.csv is not None:
        table.write_csv(flags.csv, results["outputs"])
    print(table.text(about, results))


if __name__ == "__main__":
    cli.run(main)
