"""``python -m srbatch`` is the ``srbatch`` command."""

from srbatch.cli import main

if __name__ == "__main__":
    main()
