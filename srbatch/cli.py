"""The ``srbatch`` command: flags to options, and what a command ends with."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from srbatch import __version__, flags
from srbatch.entry import OutputGroup, Stop, run_command
from srbatch.errors import ExitCode, Interrupted, SrbatchError, UsageError
from srbatch.formats import Format
from srbatch.options import Options, TargetSize

if TYPE_CHECKING:
    from srbatch.reporting.report import Reporter


@click.group(
    cls=OutputGroup, epilog=flags.EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="srbatch")
def cli() -> None:
    """Upscale and restore whole photo archives with a deep super-resolution network.

    Originals are never changed. Interrupt at any time and run the same command again.
    """


@cli.command(epilog=flags.EXIT_CODES)
@flags.input_options
@click.option(
    "--out", type=flags.PATH, required=True, metavar="DIR", help="Where outputs go; a file for one photo."
)
@flags.outputs
@click.option(
    "--rehash", is_flag=True, help="Read every photo to see if it changed; do not trust size and date."
)
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be done, and how much time and space it would take."
)
@click.option(
    "--report",
    type=flags.PATH,
    metavar="FILE",
    help="Write a line for each photo, with its notes, to a .csv or .json file.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON object for each photo on standard output.")
@flags.verbosity
def upscale(dry_run: bool, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
    """Upscale photos and folders of photos into OUT, whose tree mirrors theirs.

    \b
    srbatch upscale ./photos --scale 4 --out ./hi
    srbatch upscale old.jpg --scale 1 --out better.jpg
    srbatch upscale ./scans --first restore --scale 4 --out ./hi
    """
    options = flags.chosen(**given)
    from srbatch import run
    from srbatch.reporting.estimate import as_lines, as_record

    report = None if dry_run else options.report  # a look must not cost the report of the run looked at
    reporter = _reporter(report, as_json=as_json, quiet=quiet, verbose=verbose)
    with Stop() as stop:
        if dry_run:
            code, found = run.dry_run(options, reporter=reporter, check=stop.check)
            _tell(json.dumps(as_record(found)) if as_json else "\n".join(as_lines(found)))
        else:
            code = run.upscale(options, reporter=reporter, check=stop.check, command=shlex.join(sys.argv))
    sys.exit(code)


@cli.command(epilog=flags.EXIT_CODES)
@click.argument("folder", type=flags.PATH)
@flags.selection
@click.option("--out", type=flags.PATH, required=True, metavar="DIR", help="Where outputs go.")
@flags.outputs
@click.option(
    "--settle",
    default=2.0,
    show_default=True,
    metavar="S",
    help="Seconds that a file must stay unchanged before it is taken.",
)
@click.option(
    "--poll",
    type=float,
    metavar="S",
    help="Look through FOLDER every S seconds instead of waiting for file events.",
)
@click.option(
    "--done", type=flags.PATH, metavar="DIR", help="Move finished originals there.  [default: never]"
)
@click.option(
    "--failed",
    type=flags.PATH,
    metavar="DIR",
    help="Move originals there that were given up, with a text file that says why.",
)
@click.option("--once", is_flag=True, help="End when nothing is left to do (for cron).")
@click.option(
    "--stop-within",
    default=20.0,
    show_default=True,
    metavar="S",
    help="Seconds to finish the photos in hand when asked to stop.",
)
@click.option(
    "--expect-ledger",
    is_flag=True,
    help="End with 6 if OUT has no ledger yet, as where its disk is not mounted.",
)
@click.option("--json", "as_json", is_flag=True, help="The log as JSON lines.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least serious messages that are logged.",
)
def watch(
    folder: Path,
    settle: float,
    poll: float | None,
    done: Path | None,
    failed: Path | None,
    once: bool,
    stop_within: float,
    expect_ledger: bool,
    as_json: bool,
    log_level: str,
    **given: Any,
) -> None:
    """Watch FOLDER and upscale every photo that arrives there into OUT, until told to stop.

    SIGTERM and Ctrl-C finish the photos in hand and end with 0 (with --once, with 143 and 130). SIGHUP looks
    through FOLDER at once.

    \b
    srbatch watch ./drop --scale 2 --out ./hi
    """
    options = flags.chosen(inputs=(folder,), **given)
    from srbatch.watch import daemon, log
    from srbatch.watch.control import Control

    how = daemon.WatchOptions(
        settle_s=settle,
        poll_s=poll,
        once=once,
        done=done,
        failed=failed,
        stop_within_s=stop_within,
        expect_ledger=expect_ledger,
    )
    log.configure(log_level, as_json=as_json)
    with Control(stop_within_s=stop_within) as control, control.signals():
        try:
            code = daemon.watch(options, how, control=control, command=shlex.join(sys.argv))
        except SrbatchError as error:
            if not as_json:
                raise
            logging.getLogger("srbatch").error("%s", error)
            code = error.exit_code
    sys.exit(code)


def _reporter(report_path: Path | None, *, as_json: bool, quiet: bool, verbose: bool) -> Reporter:
    """Who hears of the run. Standard error is for people, standard output for data."""
    from srbatch.reporting import report, report_files

    _set_log_level(verbose=verbose)
    reporters: list[Reporter] = []
    if sys.stderr.isatty() and not quiet:
        from srbatch.reporting.terminal import Terminal, log_to

        terminal = Terminal()
        log_to(terminal.console)
        reporters.append(report.ForPeople(terminal))
    else:
        logging.basicConfig(format="%(levelname)s %(message)s", force=True)
        reporters.append(report.ForPeople(report.Plain(quiet=quiet)))
    if as_json:
        reporters.append(report_files.JsonLines())
    if report_path is not None:
        reporters.append(report_files.report_file(report_path))
    return report.Several(reporters)


def _set_log_level(*, verbose: bool) -> None:
    # Of our own records alone: what libraries are doing inside helps nobody here.
    logging.getLogger("srbatch").setLevel(logging.DEBUG if verbose else logging.WARNING)


def _tell(text: str) -> None:
    """Write to standard output, at once."""
    from srbatch.reporting.report_files import standard_output

    with standard_output():
        click.echo(text)


@cli.command("try", epilog=flags.EXIT_CODES)
@flags.input_options
@click.option(
    "-n",
    "count",
    type=click.IntRange(1),
    default=6,
    show_default=True,
    help="How many photos, spread over all found.",
)
@click.option("--out", type=flags.PATH, required=True, metavar="FILE", help="The sheet, a .png file.")
@click.option("--scale", default=4.0, show_default=True, metavar="F", help="Factor from 1 to 8.")
@flags.model
@click.option("--overwrite", is_flag=True, help="Replace the sheet if it exists.")
@flags.temporary
@flags.codecs
@flags.verbosity
def try_out(
    count: int,
    scale: float,
    codec_timeout: float,
    codec_memory: int,
    quiet: bool,
    verbose: bool,
    **others: Any,
) -> None:
    """Make a sheet of enlarged crops of your own photos, to judge before a long run.

    Columns: input, nearest neighbour, bilinear, prediction.
    """
    from srbatch.reporting import sheet

    logging.basicConfig(format="%(levelname)s %(message)s")
    _set_log_level(verbose=verbose)
    options = Options(
        size=TargetSize(scale=scale), codec_timeout_s=codec_timeout, codec_memory_mb=codec_memory, **others
    )
    with Stop() as stop:
        failures = sheet.write(options, count, check=stop.check)
    for line in failures:
        click.echo(line, err=True)
    if not quiet:
        click.echo(f"{options.out}: look at it at 100 %", err=True)
    sys.exit(ExitCode.SOME_FAILED if failures else ExitCode.DONE)


@cli.command(epilog=flags.EXIT_CODES)
@flags.out
@flags.state
@flags.as_json_option
@click.option("--watch", "live", is_flag=True, help="Keep showing it, until Ctrl-C.")
def status(out: Path, state: Path | None, as_json: bool, live: bool) -> None:
    """Say what the ledger of the output folder OUT knows: what is done, what failed and why."""
    from srbatch.reporting import inspection

    if live:
        from srbatch.watch import live_view

        if as_json:
            raise UsageError("--watch is for people; for machines, ask again with --json")
        with Stop() as stop, contextlib.suppress(Interrupted):
            live_view.show(out, state, check=stop.check)
        sys.exit(ExitCode.DONE)
    found = inspection.status(out, state)
    _tell(json.dumps(found.as_record()) if as_json else "\n".join(found.lines()))
    sys.exit(ExitCode.SOME_FAILED if found.failures else ExitCode.DONE)


@cli.command(epilog=flags.EXIT_CODES)
@flags.out
@flags.state
@flags.as_json_option
def verify(out: Path, state: Path | None, as_json: bool) -> None:
    """Read every output and sidecar in OUT again, and compare its hash with the ledger."""
    from srbatch.reporting import inspection

    with Stop() as stop:
        found = inspection.verify(out, state, check=stop.check)
    _tell(json.dumps(found.as_record()) if as_json else "\n".join(found.lines()))
    sys.exit(ExitCode.SOME_FAILED if found.problems else ExitCode.DONE)


@cli.command(epilog=flags.EXIT_CODES)
@flags.input_options
@click.option("--scale", default=4.0, show_default=True, metavar="F", help="Factor from 1 to 8.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice([fmt.value for fmt in Format if fmt.written]),
    help="Show only what this format would do to them.  [default: all]",
)
@click.option("--no-provenance", is_flag=True, help="Leave out the declaration that the file was enhanced.")
@flags.temporary
@flags.codecs
@flags.as_json_option
def inspect(
    scale: float,
    format_name: str | None,
    no_provenance: bool,
    codec_timeout: float,
    codec_memory: int,
    as_json: bool,
    **others: Any,
) -> None:
    """Show what srbatch sees of PHOTOS, and what each format would keep, convert or refuse.

    Every photo is decoded in full; with --json there is a line for each.
    """
    from srbatch.reporting import describe
    from srbatch.reporting.description import Unreadable

    options = Options(
        out=Path(),
        size=TargetSize(scale=scale),
        format=Format(format_name) if format_name else None,
        provenance=not no_provenance,
        codec_timeout_s=codec_timeout,
        codec_memory_mb=codec_memory,
        **others,
    )
    failed = False
    with Stop() as stop:
        for found in describe.inspect(options, check=stop.check):
            failed |= isinstance(found, Unreadable)
            _tell(json.dumps(found.as_record()) if as_json else "\n".join(found.lines()))
    sys.exit(ExitCode.SOME_FAILED if failed else ExitCode.DONE)


@cli.command(epilog=flags.EXIT_CODES)
@flags.as_json_option
@click.option("--full", is_flag=True, help="Also all measurements, and how each model was trained.")
def models(as_json: bool, full: bool) -> None:
    """List the models that come with srbatch, and what each of them is for.

    With --json everything on record is told.
    """
    from srbatch import weights
    from srbatch.reporting import inspection

    releases = weights.released()
    if as_json:
        _tell(json.dumps([{"path": str(path), **card.to_json()} for path, card in releases]))
    else:
        _tell("\n\n".join(inspection.card_text(path, card, full=full) for path, card in releases))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit with its code."""
    run_command(cli, arguments, "srbatch")


if __name__ == "__main__":
    main()
