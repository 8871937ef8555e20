"""A whole run: from the options of a command to its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from srbatch.batch import Check, Run, photos_at_once, run_all
from srbatch.codecs.codec_pool import CodecPool
from srbatch.discovery.apart import check_outside
from srbatch.discovery.discover import Selection, discover
from srbatch.discovery.found import Found
from srbatch.discovery.target_names import check_name
from srbatch.errors import ExitCode
from srbatch.model import Model
from srbatch.options import Options
from srbatch.outputs.archive import looked_into, opened, scratch_folder, state_folder
from srbatch.preflight import Job, Settings, forget_vanished, prepare
from srbatch.reporting.codec_time import codec_seconds
from srbatch.reporting.estimate import Estimate, estimate
from srbatch.reporting.outcome import Summary
from srbatch.reporting.report import Reporter, Several
from srbatch.upscaling.devices import Devices


def upscale(
    options: Options,
    *,
    reporter: Reporter,
    check: Check = lambda: None,
    command: str = "",
    model_of: Callable[[Options], Model] = Model,
) -> ExitCode:
    """Do what ``srbatch upscale`` does; the reporter hears of every photo and of the end, whatever it is.

    Raises:
        SrbatchError: the run could not begin or go on.
    """
    start, summary = time.monotonic(), Summary()
    found = find(options, check)
    summary.photos, summary.ignored = len(found.photos), found.ignored
    summary.unreadable_folders = found.unreadable_folders
    settings = Settings(options, model_of(options))
    try:
        with session(settings, reporter=reporter, check=check, command=command) as run:
            reporter.found(found)
            forget_vanished(run.ledger, options.out, options.inputs)
            run_all(run, found.photos, summary)
    finally:
        summary.seconds = time.monotonic() - start
        reporter.end(summary)
    return summary.exit_code


@contextmanager
def session(
    settings: Settings,
    *,
    reporter: Reporter,
    check: Check,
    command: str,
    goes_on: Callable[[], bool] = lambda: True,
) -> Iterator[Run]:
    """The output folder, taken for us alone, and the codecs: all that ``run_all`` needs, as often as wanted.

    Once ``goes_on`` is false no further photo is begun.

    Raises:
        SrbatchError: as :func:`srbatch.outputs.archive.opened`.
    """
    options = settings.options
    with (
        opened(options, command) as archive,
        CodecPool.of(options, check) as codecs,
        Devices(lambda: settings.model.upscalers) as devices,
    ):
        in_turn = Several([reporter])  # photos report from threads of their own
        yield Run(settings, codecs, devices, archive.ledger, archive.scratch, in_turn, check, goes_on)


def dry_run(options: Options, *, reporter: Reporter, check: Check) -> tuple[ExitCode, Estimate]:
    """Find out what a run would do and cost, without writing anything but temporary files.

    The reporter hears of photos that would be skipped or would fail; the exit code is 3 where some would.
    """
    start, summary = time.monotonic(), Summary(dry=True)
    found = find(options, check)
    summary.photos, summary.ignored = len(found.photos), found.ignored
    summary.unreadable_folders = found.unreadable_folders
    settings = Settings(options, Model(options))
    jobs = []
    with looked_into(options) as archive, CodecPool.of(options, check) as codecs:
        for prepared in prepare(found.photos, settings, archive.ledger, codecs, check):
            if isinstance(prepared, Job):
                jobs.append(prepared)
            else:
                summary.add(prepared)
                reporter.finished(prepared)
        result = estimate(
            jobs,
            options.out,
            scratch_folder(options),
            settings.model,
            at_once=photos_at_once(codecs),
            codec_seconds=codec_seconds(jobs, options, codecs, archive.scratch),
        )
    summary.seconds = time.monotonic() - start
    reporter.end(summary)
    return summary.exit_code, result


def find(options: Options, check: Check = lambda: None) -> Found:
    """The photos that are there now; ``check`` is called at each folder.

    Raises:
        UsageError: an input does not exist, something would be written into one, or the output's name is
            not that of what would be made.
    """
    ours = {"--state": options.state, "--scratch": options.scratch, "--report": options.report}
    check_outside(options.inputs, ours)
    selection = Selection(options.recursive, options.include, options.exclude)
    found = discover(options.inputs, options.out, selection=selection, to=options.format, check=check)
    check_name(options.inputs, options.out, options.format)
    # Also where none was named; only now, as an output folder inside an input is to be told as that.
    check_outside(options.inputs, {"--state": state_folder(options.out, options.state)})
    return found
