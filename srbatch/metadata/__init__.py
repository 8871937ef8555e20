"""What a photo says beside its pixels: read, corrected for an enlargement, written, read back.

How an encoder uses it, with ``meta = for_output(read(source, fmt), target_fmt, ...)``::

    sink = open_sink(file, fmt, meta)       # JPEG, PNG, WebP
    ...                                     # the codec writes through sink.write(data), in any pieces
    sink.finish()

    finish_tiff(path, meta, ...)            # TIFF, once the codec has closed the file

    verify(path, fmt, meta)                 # any format: is everything in the file?

The codec itself writes the ICC profile and the resolution, and must write no other metadata. libvips
writes no resolution into a JPEG file without EXIF; ``open_sink(..., resolution=...)`` does. Into PNG and TIFF
files it writes one that nobody told it too; both take that out.
"""
