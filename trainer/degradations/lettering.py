"""What people write over photographs, and the fonts it is set in.

Only fonts that come with a dependency are used (Pillow's Aileron, matplotlib's DejaVu and STIX), so that a
seed gives the same lettering on every machine, whatever is installed there.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.degradations.layers import Plane

AILERON = "Aileron"
LATIN = (
    AILERON,
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
)
"""Fonts with the letters, digits and signs of every phrase but symbols."""
DIGITAL = ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSans-Bold", AILERON)
"""What comes nearest to the digits that a camera burns in."""
SYMBOLIC = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold")
"""Fonts with all of `_SYMBOLS`."""

_SYMBOLS = "★♥☺→←↑✓✗●■▲♪☼♣♦@#&%§$+*?!"
_STAMPS = "SAMPLE PREVIEW PROOF COPY DRAFT ARCHIVE STOCK PHOTO STUDIO PICTURE GALLERY EDITORIAL".split()
_LEADS = "Photo by|Photo:|© |(c) |Copyright|Property of|Archive of|Courtesy of|Foto".split("|")
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_ONSETS = "b c d f g h j k l m n p r s t v w z br cl dr fl gr pl sch sh st th tr".split()
_VOWELS = "a e i o u a e i o u ai ee ie oo ou".split()
_CODAS = ["", "", "", *"l m n r s t nd rt ck st".split()]


def date_stamp(rng: np.random.Generator) -> str:
    """A date as cameras and laboratories print it, some with the time."""
    year, month, day = int(rng.integers(1960, 2025)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    short = f"{year % 100:02d}"
    forms = (
        f"{day:02d}.{month:02d}.{short}",
        f"'{short} {month:2d} {day:2d}",
        f"{day:2d} {month:2d} '{short}",
        f"{month:02d}/{day:02d}/{year}",
        f"{year}-{month:02d}-{day:02d}",
        f"{_MONTHS[month - 1]} {day} {year}",
        f"{_MONTHS[month - 1]} . {short}",
    )
    time = f"  {int(rng.integers(24)):02d}:{int(rng.integers(60)):02d}" if rng.random() < 0.3 else ""
    return str(rng.choice(forms)) + time


def caption(rng: np.random.Generator) -> str:
    """A few words that no language has, some with a year, a number or a mark of punctuation."""
    words = [word(rng) for _ in range(int(rng.integers(1, 6)))]
    if rng.random() < 0.6:
        words[0] = words[0].capitalize()
    if rng.random() < 0.3:
        words.append(str(rng.integers(1, 2100)))
    line = " ".join(words) + str(rng.choice(["", "", "", "!", ".", "...", "?", ","]))
    return line.upper() if rng.random() < 0.25 else line


def credit(rng: np.random.Generator) -> str:
    """Whose picture it is, or the address of a site."""
    name, surname = word(rng).capitalize(), word(rng).capitalize()
    if rng.random() < 0.25:
        return f"www.{name.lower()}{surname.lower()}.com"
    lead = str(rng.choice(_LEADS)).strip()
    year = f" {int(rng.integers(1950, 2025))}" if rng.random() < 0.5 else ""
    return f"{lead}{year} {name} {surname}"


def stamp(rng: np.random.Generator) -> str:
    """What a stock agency repeats over its previews."""
    text = str(rng.choice(_STAMPS)) if rng.random() < 0.6 else word(rng).capitalize()
    if rng.random() < 0.3:
        text = f"{rng.choice(['©', '(c)'])} {text}"
    return text if rng.random() < 0.8 else f"{text} {word(rng)}"


def symbols(rng: np.random.Generator) -> str:
    """One to four signs."""
    return "".join(rng.choice(list(_SYMBOLS), int(rng.integers(1, 5))))


def word(rng: np.random.Generator) -> str:
    """One to three syllables, in lower case."""
    count = int(rng.integers(1, 4))
    return "".join(f"{rng.choice(_ONSETS)}{rng.choice(_VOWELS)}{rng.choice(_CODAS)}" for _ in range(count))


def rendered(text: str, font: str, size_px: int, *, stroke_px: int = 0) -> Plane:
    """Opacity of the text, (h, w), cropped to its ink; ``size_px`` is the height of the font's em square."""
    face = _face(font, size_px)
    left, top, right, bottom = face.getbbox(text, stroke_width=stroke_px)
    size = (max(int(np.ceil(right - left)), 1), max(int(np.ceil(bottom - top)), 1))
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=face, stroke_width=stroke_px)
    return np.asarray(image, np.float32) / np.float32(255)


def turned(mask: Plane, degrees: float) -> Plane:
    """The mask turned counter-clockwise, enlarged as far as that needs."""
    if degrees == 0:
        return mask
    image = Image.fromarray(mask).rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    return np.asarray(image, np.float32)


@lru_cache(maxsize=512)
def _face(font: str, size_px: int) -> ImageFont.FreeTypeFont:
    if font == AILERON:
        face = ImageFont.load_default(size_px)
        if not isinstance(face, ImageFont.FreeTypeFont):
            raise RuntimeError("Pillow was built without FreeType, which draws text; install the usual wheel")
        return face
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    # Pillow's own layout: the other one, Raqm, is not in every build and places letters differently.
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)
