"""How long a run will read and write for, measured on some of its own photos."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Hashable, Iterable
from pathlib import Path

import numpy as np

from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.decisions import encoding_of
from srbatch.codecs.encode import Encoding
from srbatch.codecs.picture import Picture, dtype_of
from srbatch.errors import PhotoError
from srbatch.options import Options
from srbatch.outputs.scratch import PhotoScratch, Scratch
from srbatch.preflight import Job

_SAMPLES = 3
"""Photos of each kind."""
_PART_PX = 1024
"""On a side, of the part that is written: enough to go by, and soon done even in AVIF."""


def codec_seconds(jobs: Iterable[Job], options: Options, codecs: CodecPool, scratch: Scratch) -> float:
    """Seconds for reading all the photos and writing all the outputs, by all the workers at the same time.

    Of each kind (format and depth, of photo and output) a few photos are read, and a part of each is written
    in the output's format. A photo that fails here counts for nothing: it will fail in the run.

    Raises:
        DestinationError: the scratch space takes no pixels.
    """
    kinds: defaultdict[Hashable, list[Job]] = defaultdict(list)
    for job in jobs:
        kinds[job.header.format, job.header.bits, job.format, job.bits].append(job)
    return sum(_seconds_of_kind(kind, options, codecs, scratch) for kind in kinds.values()) / codecs.workers


def _seconds_of_kind(jobs: list[Job], options: Options, codecs: CodecPool, scratch: Scratch) -> float:
    """Of a single worker."""
    read_px = read_s = written_px = written_s = 0.0
    for job in _spread(jobs):
        try:
            with scratch.for_photo() as space:
                start = time.monotonic()
                picture = codecs.decode(job.photo.source, space.path(), options.max_pixels)
                read_s += time.monotonic() - start
                read_px += job.pixels
                raw, encoding = _part(picture, job, options, space)
                start = time.monotonic()
                codecs.encode(raw, space.path(), encoding)
                written_s += time.monotonic() - start
                written_px += encoding.height * encoding.width
        except PhotoError:
            continue
    reading = sum(job.pixels for job in jobs) * read_s / (read_px or 1)
    writing = sum(job.size[0] * job.size[1] for job in jobs) * written_s / (written_px or 1)
    return reading + writing


def _spread(jobs: list[Job]) -> list[Job]:
    """Some from the smallest to the largest, without the extremes."""
    ordered = sorted(jobs, key=lambda job: job.pixels)
    count = min(_SAMPLES, len(ordered))
    return [ordered[(2 * place + 1) * len(ordered) // (2 * count)] for place in range(count)]


def _part(picture: Picture, job: Job, options: Options, space: PhotoScratch) -> tuple[Path, Encoding]:
    """The middle of a photo in a raw file, and how to write it as the job's output will be.

    Raises:
        UnsupportedPhoto: the output's format cannot hold the photo.
    """
    pixels = picture.pixels()
    top, left = (max(side - _PART_PX, 0) // 2 for side in pixels.shape[:2])
    part = pixels[top : top + _PART_PX, left : left + _PART_PX]
    encoding = encoding_of(picture, job.format, part.shape[:2], quality=options.quality, provenance=None)
    part = part[:, :, : encoding.channels]
    if part.dtype != dtype_of(encoding.bits):
        part = (part // 257).astype(np.uint8)
    raw = space.path()
    part.tofile(raw)
    return raw, encoding
