"""Files of weights: self-describing safetensors, found by path or by name.

The header of a file holds its :class:`Card`; the tensors are named as in ``SuperResolutionNet.state_dict()``.
A convolution kept as int8 has its scales beside it, one per output channel, as ``<name>.scale``. torch is
imported where tensors are needed, so that models can be listed without waiting for it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from srbatch.card import Card
from srbatch.errors import WeightsError
from srbatch.outputs.commit import whole

if TYPE_CHECKING:
    from torch import Tensor

    from srbatch.network import SuperResolutionNet

Storage: TypeAlias = Literal["int8", "fp16", "fp32"]

FORMAT_VERSION = 1
CHECKSUMS = "SHA256SUMS"
_METADATA_KEY = "srbatch"
_SCALE = ".scale"
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit; a corrupt length would ask for terabytes


@dataclass(frozen=True, slots=True)
class Weights:
    """A loaded file."""

    network: SuperResolutionNet
    """In eval mode, fp32, on the CPU, without gradients."""
    card: Card
    sha256: str
    """Of the file's bytes, in hex: what the ledger knows a model by."""
    path: Path


class Release(NamedTuple):
    """A model that comes with srbatch."""

    path: Path
    card: Card


# ---- finding ----------------------------------------------------------------------------------------------


def find(model: str) -> Path:
    """Return the file that ``model`` means: a path as it is, or the name of a released model.

    Names have neither separators nor dots, so anything with one of them is a path.

    Raises:
        WeightsError: no released model has this name.
    """
    if any(mark in model for mark in ("/", "\\", ".")):
        return Path(model)
    path = _released_folder() / f"{model}.safetensors"
    if not path.is_file():
        known = ", ".join(file.stem for file in _released_files()) or f"none in {_released_folder()}"
        raise WeightsError(
            f"no model is named {model!r}; known: {known}. Or give the path of a .safetensors file"
        )
    return path


def released() -> list[Release]:
    """Return the released models by name; headers are read, checksums are left to :func:`load`.

    Raises:
        WeightsError: a released file is damaged.
    """
    return [Release(path, read_card(path)) for path in _released_files()]


def _released_files() -> list[Path]:
    return sorted(_released_folder().glob("*.safetensors"))


def _released_folder() -> Path:
    package = Path(__file__).parent
    installed = package / "_weights"
    # Beside an installed package, "weights" could be anybody's; so the wheel's own folder comes first.
    return installed if installed.is_dir() else package.parent / "weights"


# ---- reading ----------------------------------------------------------------------------------------------


def read_card(path: Path) -> Card:
    """Return the card of a file; only its header is read, and torch is not imported.

    Raises:
        WeightsError: missing, not safetensors, truncated, or without a header of ours.
    """
    with _opened(path) as file:
        return _card_in(path, file)


def identify(path: Path) -> tuple[Card, str]:
    """Return the card of a file and the hash of all its bytes, in hex; torch is not imported.

    Raises:
        WeightsError: as :func:`read_card`.
    """
    with _opened(path) as file:
        card = _card_in(path, file)
        file.seek(0)
        return card, hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path) -> Weights:
    """Read a file of weights and build its network.

    Nothing in the file is run: pickles are refused. A released file must have its listed checksum.

    Raises:
        WeightsError: the file is missing, damaged or not ours; the message names it and says what to do.
    """
    import safetensors
    import safetensors.torch

    with _opened(path) as file:
        card = _card_in(path, file)
        file.seek(0)
        data = file.read()  # once, so that what is hashed is what is loaded
    sha256 = hashlib.sha256(data).hexdigest()
    _check_release(path, sha256)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"weights {path} are damaged ({error}); fetch or export them again") from error
    return Weights(_build(path, card, tensors), card, sha256, path)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise WeightsError(
            f"weights {path} cannot be read: {error.strerror}; check the path, or: srbatch models"
        ) from error


def _card_in(path: Path, file: BufferedReader) -> Card:
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    length = int.from_bytes(start, "little")
    _require_safetensors(path, start, length)
    return _parse_header(path, file.read(length), length, size)


def _require_safetensors(path: Path, start: bytes, length: int) -> None:
    # A pickle begins with 0x80, as may the length of a header; but taken for a length, it is a huge one.
    pickled = start.startswith(b"PK\3\4") or (start.startswith(b"\x80") and length > _MAX_HEADER_BYTES)
    if path.suffix.lower() in {".pth", ".pt", ".pkl", ".ckpt"} or pickled:
        raise WeightsError(
            f"{path} is a pickle; pickles are not loaded because they can run code."
            " Give the .safetensors file that the training wrote at its end; of a checkpoint,"
            " `python -m trainer export` makes one"
        )
    if len(start) < 8 or not 2 <= length <= _MAX_HEADER_BYTES:
        raise WeightsError(f"{path} is not a safetensors file, or is damaged; fetch or export it again")


def _parse_header(path: Path, text: bytes, length: int, size: int) -> Card:
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        card = metadata.get(_METADATA_KEY)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"weights {path} are damaged or truncated in the header; fetch them again"
        ) from error
    if size != end:
        raise WeightsError(f"weights {path} are truncated or damaged: {size} bytes, not {end}")
    if card is None:
        raise WeightsError(
            f"weights {path} have no srbatch card, so they are not srbatch's; models of other programs cannot"
            " be used"
        )
    return _parse_card(path, card)


def _parse_card(path: Path, text: str) -> Card:
    try:
        record: dict[str, Any] = json.loads(text)
        version = record["format"]
        if version == FORMAT_VERSION:
            return Card.from_json(record["card"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"the card of weights {path} is not valid: {error}") from error
    raise WeightsError(f"weights {path} have format {version!r}, not {FORMAT_VERSION}; update srbatch")


def _check_release(path: Path, sha256: str) -> None:
    if path.resolve().parent != _released_folder().resolve():
        return
    try:
        lines = (path.parent / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be checked by {CHECKSUMS}: {error.strerror}") from error
    if f"{sha256}  {path.name}" not in lines:
        raise WeightsError(f"weights {path} do not have their checksum in {CHECKSUMS}; fetch them again")


def _build(path: Path, card: Card, stored: dict[str, Tensor]) -> SuperResolutionNet:
    import torch

    from srbatch.network import SuperResolutionNet

    # On "meta" nothing is allocated or initialised only to be overwritten.
    with torch.device("meta"):
        network = SuperResolutionNet(card.config)
    expected = network.state_dict()
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if not _is_stored(name)}
    state = _unpack(path, stored)
    _check_tensors(path, state, {name: t for name, t in expected.items() if name not in counters})
    network.load_state_dict(state | counters, assign=True)
    return network.eval().requires_grad_(False)


def _check_tensors(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    problems = {
        "missing": expected.keys() - state.keys(),
        "unexpected": state.keys() - expected.keys(),
        "of the wrong shape": {n for n in expected.keys() & state if state[n].shape != expected[n].shape},
        "not finite": {name for name, tensor in state.items() if not tensor.isfinite().all()},
    }
    found = [f"{len(names)} tensors {what} ({_few(names)})" for what, names in problems.items() if names]
    if found:
        raise WeightsError(f"weights {path} do not fit their network: {'; '.join(found)}; export them again")


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")


# ---- writing and storage ----------------------------------------------------------------------------------


def save(
    path: Path, network: SuperResolutionNet, card: Card, storage: Storage, *, rounded_from: int = 0
) -> None:
    """Write network and card to ``path``, whole or not at all; an older file there is replaced.

    ``int8`` and ``fp16`` apply to convolutions; all else, and the small RGB heads, are kept in fp32. Of fewer
    weights than ``rounded_from``, a convolution is kept one step finer, as `FINER` says. The same network and
    card give the same bytes, and what was loaded from int8 is stored without further loss.

    Raises:
        ValueError: the card describes another network, or a value is not finite or too large for ``storage``.
        OSError: the file cannot be written.
    """
    import safetensors.torch

    if card.config != network.config:
        raise ValueError(f"the card is for {card.config}, the network is {network.config}")
    # One key only: safetensors writes several in random order, and the file would not be reproducible.
    record = {"format": FORMAT_VERSION, "card": card.to_json()}
    metadata = {_METADATA_KEY: json.dumps(record, allow_nan=False)}
    data = safetensors.torch.save(_pack(network.state_dict(), storage, rounded_from), metadata)
    with whole(path) as temporary:
        temporary.write_bytes(data)
        temporary.chmod(0o644)  # whatever the umask: weights are read by everybody


def _is_stored(name: str) -> bool:
    """Whether a tensor goes into files: not batch norm's step counters, which only training reads."""
    return not name.endswith("num_batches_tracked")


FINER: Mapping[Storage, Storage] = {"int8": "fp16", "fp16": "fp32", "fp32": "fp32"}
"""The storage that rounds less."""


def _pack(state: dict[str, Tensor], storage: Storage, rounded_from: int) -> dict[str, Tensor]:
    """Turn a state dict into what is stored; :func:`_unpack` is the inverse."""
    packed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not _is_stored(name):
            continue
        tensor = tensor.detach().cpu().float().contiguous()
        if tensor.ndim == 4 and not name.startswith("heads."):
            kind = storage if tensor.numel() >= rounded_from else FINER[storage]
            if kind == "int8":
                tensor, packed[name + _SCALE] = _quantise(tensor)
            elif kind == "fp16":
                tensor = tensor.half()
        if not all(t.isfinite().all() for t in (tensor, packed.get(name + _SCALE, tensor))):
            raise ValueError(f"{name} is not finite or too large for {storage}")
        packed[name] = tensor
    return packed


def _unpack(path: Path, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    import torch

    state: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        scale = stored.get(name + _SCALE)
        if name.endswith(_SCALE):
            continue
        if (tensor.dtype == torch.int8) != (scale is not None):
            raise WeightsError(f"weights {path} are damaged: {name} and its scales do not belong together")
        if scale is not None and scale.shape != tensor.shape[:1]:
            raise WeightsError(f"weights {path} are damaged: {name} has scales of shape {tuple(scale.shape)}")
        state[name] = tensor.float() if scale is None else _dequantise(tensor, scale)
    return state


def _quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 (O, I, kH, kW) in [-127, 127] and fp32 scales (O,), symmetric, per output channel.

    A scale is absmax / 127, rounded up to 17 significant bits. A product with an integer of 7 bits is then
    exact in fp32's 24, so that quantising what was dequantised gives the same integers and scales again.
    """
    import torch

    scale = weight.abs().amax(dim=(1, 2, 3)) / 127  # (O,)
    scale = ((scale.view(torch.int32) + 0x7F) & ~0x7F).view(torch.float32)
    divisor = torch.where(scale > 0, scale, 1.0)  # a channel of zeros stays zeros
    return (weight / divisor.view(-1, 1, 1, 1)).round().to(torch.int8), scale


def _dequantise(integers: Tensor, scale: Tensor) -> Tensor:
    return integers.float() * scale.float().view(-1, 1, 1, 1)
