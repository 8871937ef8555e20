"""``python -m trainer``: flags to a configuration, exceptions to exit codes."""

from __future__ import annotations

import contextlib
import difflib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn, get_args

import click

from srbatch import __version__
from srbatch.discovery.apart import check_outside
from srbatch.entry import OutputGroup, options_of, run_command
from srbatch.errors import ExitCode, SrbatchError, UsageError
from srbatch.options import PRECISIONS
from srbatch.outputs.commit import destination_error, make_folder
from srbatch.weights import Storage

_PATH = click.Path(path_type=Path)
_COUNT = click.IntRange(min=1)
_TRAIN = "train"

EXPLANATION = """python -m trainer PHOTOS... --out DIR

trains a super-resolution network from the photographs in one or more folders and writes weights that
`srbatch upscale --model DIR/NAME.safetensors` takes (NAME is photo with the default preset). It needs

  - sharp photographs, at least some hundreds, no side shorter than the largest crop
  - time: the default schedule is for a GPU (hours); `--preset smoke` shows all of it in two minutes on a CPU
  - the internet, once: ImageNet weights of the encoder and of VGG-16 are downloaded, or given as files with
    --encoder-weights and --vgg-weights

Interrupt it at any time and run the same command again. More: python -m trainer --help"""


class Group(OutputGroup):
    """A group whose first word may be left out: what is no sub-command is the photos to train with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h", "--version"):
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            if near and not Path(args[0]).exists():
                raise UsageError(f"{args[0]} is no command and no folder; {near[0]} is the nearest command")
            args = [_TRAIN, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the sub-command; what a plain installation lacks is named."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise UsageError(f"{error}; training needs: pip install 'srbatch[train]'") from error


@click.group(cls=Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trainer of srbatch")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Train the network of srbatch from photographs.

    \b
    python -m trainer ./photos --out runs/mine      train with the default schedule
    python -m trainer preview ./photos --out s.png  look at what the network would be shown
    python -m trainer config --preset restore       all that can be set, and what it means
    python -m trainer evaluate --weights W --data HR --scale 4 --out results
    """
    if ctx.invoked_subcommand is None:
        click.echo(EXPLANATION, err=True)
        sys.exit(ExitCode.USAGE)


_photos = click.argument("photos", nargs=-1, required=True, type=_PATH, metavar="PHOTOS...")
_configured = options_of(
    click.option(
        "--preset",
        default="release",
        show_default=True,
        help="article, release, restore, retouch, smoke.",
    ),
    click.option(
        "--config",
        "config_file",
        type=_PATH,
        metavar="FILE",
        help="A TOML file whose values override the preset's.",
    ),
    click.option(
        "--set",
        "values",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one value, such as phases.0.lr=1e-4; may be repeated.",
    ),
    click.option("--encoder-weights", metavar="FILE", help="The same as --set start.encoder=FILE."),
    click.option("--vgg-weights", metavar="FILE", help="The same as --set vgg_weights=FILE."),
    click.option(
        "--weights",
        "start",
        metavar="MODEL",
        help="Start from this model: the same as --set start.weights=MODEL.",
    ),
    click.option("--device", metavar="NAME", help="The same as --set run.device=NAME."),
)
_overwrite = click.option("--overwrite", is_flag=True, help="Replace what has that name.")
_cache = click.option(
    "--cache",
    type=_PATH,
    metavar="DIR",
    help="Where decoded photos are kept; several runs may share it.  [default: OUT/cache]",
)


def _config(options: dict[str, Any]) -> Any:
    """Take the flags of ``_configured`` out of ``options`` and read the configuration that they mean."""
    from trainer import reading

    flags = {
        "start.encoder": options.pop("encoder_weights"),
        "vgg_weights": options.pop("vgg_weights"),
        "start.weights": options.pop("start"),
        "run.device": options.pop("device"),
    }
    given = {key: value for key, value in flags.items() if value is not None}
    return reading.load(options.pop("preset"), options.pop("config_file"), options.pop("values"), given)


@cli.command(_TRAIN)
@_photos
@click.option("--out", type=_PATH, required=True, metavar="DIR", help="Checkpoints, logs, panels, weights.")
@_configured
@_cache
def train(photos: tuple[Path, ...], out: Path, cache: Path | None, **options: Any) -> None:
    """Train on PHOTOS and write into OUT; run again with the same OUT, it goes on where it stopped.

    PHOTOS are folders of any format that srbatch reads except GIF. The word train may be left out.
    """
    from trainer import run, schedule

    config = _config(options)
    _make_folder(out, among=photos)
    for line in schedule.as_lines(config):
        _say(line)
    run.train(config, photos, out, say=_say, cache=cache)


@cli.command()
@_photos
@click.option("--out", type=_PATH, required=True, metavar="FILE", help="The sheet, a .png file.")
@click.option("-n", "count", type=_COUNT, default=4, show_default=True, help="How many crops.")
@click.option("--size", type=_COUNT, metavar="PX", help="Side of the crops.  [default: the last phase's]")
@click.option("--overwrite", is_flag=True, help="Replace the sheet if it exists.")
@_configured
def preview(
    photos: tuple[Path, ...], out: Path, count: int, size: int | None, overwrite: bool, **options: Any
) -> None:
    """Write a sheet of clean and degraded crops, and each degradation at its strongest.

    Scale and degradations are those of the last phase.
    """
    from srbatch.reporting.sheet import check_name
    from trainer import data
    from trainer import photos as found_photos
    from trainer import preview as sheet

    config = _config(options)
    phase = config.phases[-1]
    side = size or phase.size
    if side % phase.scale:
        raise UsageError(f"--size {side} is not a multiple of {phase.scale}, the scale of phase {phase.name}")
    check_name(out, overwrite=overwrite)
    _make_folder(out.parent, among=photos)
    found = found_photos.find(photos, smallest=side, valid_percent=config.data.valid_percent)
    store = found_photos.Store(found.train, out.parent, cache_bytes=0)
    crops = data.sample_crops(store, side, range(count), config.run.seed)
    degradations = config.degradations_of(phase)
    sheet.write_sheet(crops, degradations, out, factor=phase.scale, seed=config.run.seed)
    _say(f"{out}: look at it at 100 %")


@cli.command("config")
@_configured
def show_config(**options: Any) -> None:
    """Print the whole configuration as a TOML file: every key, its value and what it means.

    Change what you like in it and give it to --config, over the same preset.
    """
    from trainer import listing

    click.echo(listing.as_toml(_config(options)), nl=False)


@cli.command("lr-find")
@_photos
@click.option("--out", type=_PATH, required=True, metavar="DIR", help="Where the plot goes.")
@click.option("--phase", "index", default=0, show_default=True, help="Number of the phase, from 0.")
@_configured
@_cache
def lr_find(photos: tuple[Path, ...], out: Path, index: int, cache: Path | None, **options: Any) -> None:
    """Look for the learning rate of one phase, beginning with untrained (or given) weights."""
    from trainer import run

    config = _config(options)
    _make_folder(out, among=photos)
    run.find_rate(config, photos, out, index, say=_say, cache=cache)


@cli.command()
@click.argument("weights", metavar="MODEL")
@click.option("--out", type=_PATH, required=True, metavar="FILE", help="The larger network's weights.")
@click.option("--seed", default=1, show_default=True, help="Of the new stage's weights.")
@_overwrite
def grow(weights: str, out: Path, seed: int, overwrite: bool) -> None:
    """Add a x2 stage to MODEL: it starts as nearest-neighbour enlargement and has to be trained."""
    from trainer.exporting import growth

    _say(str(growth.grow(weights, out, seed, overwrite=overwrite)))


@cli.command()
@click.argument("first", metavar="FAITHFUL")
@click.argument("second", metavar="PERCEPTUAL")
@click.option("--out", type=_PATH, required=True, metavar="FILE", help="The mixed network's weights.")
@click.option("--share", default=0.5, show_default=True, help="Share of the second network, 0 to 1.")
@click.option(
    "--dtype",
    type=click.Choice(get_args(Storage)),
    default="int8",
    show_default=True,
    help="Number format of the weights.",
)
@click.option("--keep-x1", is_flag=True, help="Keep everything that x1 uses from the first network.")
@_overwrite
def mix(first: str, second: str, out: Path, dtype: Storage, **options: Any) -> None:
    """Write a weighted mean of two networks, one of which was trained on from the other.

    Evaluate the result, and measure its halo again: export --halo-photos.
    """
    from trainer.exporting import mix as mixing

    _say(str(mixing.mix(first, second, out, storage=dtype, **options)))


@cli.command()
@click.option("--weights", required=True, metavar="MODEL", help="A name of `srbatch models`, or a path.")
@click.option("--data", type=_PATH, required=True, metavar="DIR", help="Photos of full resolution.")
@click.option("--scale", type=int, required=True, metavar="N", help="A whole factor, 1 to 8; 1 restores.")
@click.option(
    "--degrade",
    metavar="KIND",
    help="jpeg:q10, jpeg:q10+4, noise:25, grain:15, holes, text, watermark, scratches, dust.",
)
@click.option("--out", type=_PATH, required=True, metavar="DIR", help="Tables and sheets.")
@click.option(
    "--feature-weights",
    type=_PATH,
    metavar="FILE",
    help="torchvision's DenseNet-169; without it the feature distance is not measured.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, mps, cuda or cuda:1.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Numbers to compute with; auto takes the fastest that the device computes natively.",
)
@click.option("--strength", default=1.0, show_default=True, help="0 (bicubic) to 1 (all of the network).")
@click.option("--tta", is_flag=True, help="Average over eight views, as srbatch does with this flag.")
@click.option("--first", metavar="MODEL", help="Run this model first, as srbatch does with this flag.")
def evaluate(weights: str, data: Path, **options: Any) -> None:
    """Measure PSNR, SSIM and feature distance beside nearest, bilinear, bicubic and Lanczos.

    DIR is not searched below its first level. LPIPS is measured too where the package lpips is installed.
    """
    from trainer.evaluation import evaluate as evaluation

    results = evaluation.evaluate(weights, data, **options)
    click.echo(results.describe(), nl=False)


@cli.command()
@click.argument("weights", metavar="MODEL")
@click.option(
    "--out", type=_PATH, required=True, metavar="PATH", help="A .safetensors file, or a folder for ONNX."
)
@click.option("--onnx", is_flag=True, help="Write an ONNX file for each scale, fp32.")
@click.option(
    "--dtype", type=click.Choice(get_args(Storage)), help="Number format of the weights.  [default: int8]"
)
@click.option(
    "--halo-photos",
    type=_PATH,
    metavar="DIR",
    help="Measure the halo anew on these photos: noisy ones, for a model that takes noise out.",
)
@_overwrite
def export(weights: str, out: Path, **options: Any) -> None:
    """Write MODEL with another number format, or as ONNX; the file is read back and compared first.

    MODEL may also be the folder of a run that is not at its end, or its checkpoint: then its averaged weights
    are written, as they were when that was saved.
    """
    from trainer.exporting import reexport

    for line in reexport.reexport(weights, out, **options):
        _say(line)


def _make_folder(folder: Path, *, among: tuple[Path, ...] = ()) -> None:
    """Make the folder of --out before the work rather than after it, but not in a folder of photos."""
    check_outside(among, {"--out": folder})
    if among:
        from trainer.photos import check_folders

        check_folders(among)

    def explained(error: OSError, folder: Path) -> SrbatchError:
        if isinstance(error, FileExistsError | NotADirectoryError):
            return UsageError(f"{folder}: a file is where this folder would be; choose another --out")
        return destination_error(error, folder)

    make_folder(folder, explained=explained)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # a training goes on where nobody listens any more
        click.echo(line, err=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit with its code."""
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # fastai's, when it is imported
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    run_command(cli, arguments, "python -m trainer")


if __name__ == "__main__":
    main()
