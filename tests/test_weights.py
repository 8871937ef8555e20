"""Files of weights: round trips, damage of every kind, names, checksums, and the shipped weights' pixels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import srbatch
from srbatch import weights
from srbatch.card import Card, NetworkConfig
from srbatch.errors import UsageError, WeightsError
from srbatch.model import Model
from srbatch.network import SuperResolutionNet
from srbatch.options import Options, TargetSize

CONFIG = NetworkConfig("resnet18", features=4, refine_blocks=1, stages=1, mean=(0.5, 0.4, 0.3))
CARD = Card(
    name="tiny-1",
    version="1.0",
    description="Schön für Tests",
    licence="CC0-1.0",
    config=CONFIG,
    scales=(1, 2),
    halo_px=32,
    ramp_px=16,
    degradations=("downsampling", "jpeg"),
    training={"samples": 12, "loss": {"pixel L1": 1.0}, "date": "2026-01-01"},
    metrics={"Set5 x2 PSNR-Y": 30.25},
)


@pytest.fixture(scope="module")
def network() -> SuperResolutionNet:
    torch.manual_seed(0)
    return SuperResolutionNet(CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def file(network: SuperResolutionNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(path, network, CARD, "int8")
    return path


@pytest.fixture(scope="module")
def photo_model() -> weights.Weights:
    return weights.load(weights.find("photo"))


def tensors_of(network: SuperResolutionNet) -> dict[str, Tensor]:
    return {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}


def rewrite(source: Path, target: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """Copy a file with its tensors changed and its header kept."""
    with safetensors.safe_open(source, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = safetensors.torch.load_file(source)
    change(tensors)
    safetensors.torch.save_file(tensors, target, metadata)
    return target


# ---- round trips ------------------------------------------------------------------------------------------


def test_fp32_comes_back_exactly(network: SuperResolutionNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(path, network, CARD, "fp32")
    loaded = weights.load(path)
    assert loaded.card == CARD == weights.read_card(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.path == path
    assert not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    expected = network.state_dict()
    assert expected.keys() == loaded.network.state_dict().keys()
    assert all(torch.equal(t, expected[n]) for n, t in loaded.network.state_dict().items())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.network(x, 2), network(x, 2))


def test_fp16_rounds_convolutions_only(network: SuperResolutionNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save(path, network, CARD, "fp16")
    loaded = tensors_of(weights.load(path).network)
    for name, tensor in tensors_of(network).items():
        kept = tensor.ndim != 4 or name.startswith("heads.")
        assert torch.equal(loaded[name], tensor if kept else tensor.half().float())


def test_int8_is_stored_without_further_loss(file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    loaded = weights.load(file)
    weights.save(again, loaded.network, loaded.card, "int8")
    assert again.read_bytes() == file.read_bytes()


def test_shipped_weights_are_stored_without_further_loss(
    photo_model: weights.Weights, tmp_path: Path
) -> None:
    again = tmp_path / "photo.safetensors"
    stored = safetensors.torch.load_file(photo_model.path)
    smallest = min(tensor.numel() for tensor in stored.values() if tensor.dtype is torch.int8)
    weights.save(again, photo_model.network, photo_model.card, "int8", rounded_from=smallest)
    assert again.read_bytes() == photo_model.path.read_bytes()


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
        min_size=1,
        max_size=5,
    ),
    st.integers(-60, 20),
)
def test_int8_is_within_half_a_step_per_channel(channels: list[list[float]], exponent: int) -> None:
    weight = torch.tensor(channels, dtype=torch.float32).view(-1, 6, 1, 1) * 2.0**exponent
    integers, scale = weights._quantise(weight)
    restored = weights._dequantise(integers, scale)
    step = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    smallest = torch.finfo(torch.float32).tiny  # below it fp32 loses bits, and the bound with them
    assert ((restored - weight).abs() <= 0.501 * step + 127 * smallest).all()
    assert integers.abs().max() <= 127
    if (step[step > 0] > smallest).all():
        assert all(map(torch.equal, weights._quantise(restored), (integers, scale)))


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    network: SuperResolutionNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        weights.save(path, network, CARD, "int8")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_refuses_what_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    network = SuperResolutionNet(CONFIG)
    with pytest.raises(ValueError, match="the card is for"):
        weights.save(path, network, dataclasses.replace(CARD, config=NetworkConfig(), scales=(1,)), "fp32")
    with torch.no_grad():
        network.body.out.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"body.out.weight .* fp16"):
        weights.save(path, network, CARD, "fp16")
    with torch.no_grad():
        network.body.out.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"body.out.weight .* int8"):
        weights.save(path, network, CARD, "int8")
    assert not path.exists()


# ---- damage -----------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    """Return the message with which a file is refused; it must name the file."""
    with pytest.raises(WeightsError) as caught:
        weights.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.safetensors")
    assert "directory" in refused(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 5_000, 0.5, -1])
def test_truncated_files_are_refused(file: Path, tmp_path: Path, keep: float) -> None:
    data = file.read_bytes()
    path = tmp_path / "cut.safetensors"
    path.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else int(keep)])
    with pytest.raises(WeightsError, match="damaged"):
        weights.read_card(path)
    refused(path)


@pytest.mark.parametrize("position", [0, 5, 7, 8, 9, 60, 300])
def test_a_flipped_byte_in_the_header_is_refused(file: Path, tmp_path: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 0xFF
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"3",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"data_offsets": 0}}',
        b'{"a": {"data_offsets": "00"}}',
        b'{"a": {"data_offsets": [0, Infinity]}}',
        b'{"__metadata__": 5}',
        b'{"__metadata__": "srbatch"}',
        b"\xff\xff",
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda header: ascii(header[:40]),
)
def test_headers_of_another_form_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(path)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("w.pth", b""),
        ("w.PT", b"x" * 99),
        ("w.pkl", b"x"),
        ("w", b"PK\3\4" + b"0" * 99),
        ("w.bin", b"\x80\2" + b"0" * 99),
    ],
)
def test_pickles_are_refused(tmp_path: Path, name: str, start: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(start)
    assert "can run code" in (message := refused(path))
    assert "the .safetensors file that the training wrote" in message


def test_a_header_whose_length_begins_like_a_pickle_is_none(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    longer = length + (0x80 - length) % 256
    padded = longer.to_bytes(8, "little") + data[8 : 8 + length].ljust(longer) + data[8 + length :]
    assert padded.startswith(b"\x80")
    (tmp_path / "w.safetensors").write_bytes(padded)
    assert weights.load(tmp_path / "w.safetensors").card == CARD


def test_tensors_that_do_not_fit_are_named(file: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        del tensors["body.out.bias"]
        tensors["extra"] = torch.zeros(1)
        tensors["body.norm.weight"] = torch.zeros(3)
        tensors["heads.0.bias"][1] = torch.inf

    message = refused(rewrite(file, tmp_path / "w.safetensors", change))
    for part in ("missing (body.out.bias)", "unexpected (extra)", "wrong shape (body.norm.weight)"):
        assert part in message
    assert "1 tensors not finite (heads.0.bias)" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("body.out.weight.scale"), "body.out.weight and its scales"),
        (
            lambda t: t.update({"body.out.weight": t["body.out.weight"].float()}),
            "body.out.weight and its scales",
        ),
        (lambda t: t.update({"body.out.weight.scale": torch.ones(1)}), "body.out.weight has scales of shape"),
        (lambda t: t["body.out.weight.scale"].fill_(torch.nan), "not finite"),
    ],
)
def test_wrong_scales_are_refused(
    file: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    assert message in refused(rewrite(file, tmp_path / "w.safetensors", change))


def write_metadata(path: Path, metadata: dict[str, str]) -> Path:
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, metadata))
    return path


def test_a_file_without_our_card_is_refused(tmp_path: Path) -> None:
    assert "no srbatch card" in refused(write_metadata(tmp_path / "w.safetensors", {"format": "pt"}))


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    path = write_metadata(tmp_path / "w.safetensors", {"srbatch": '{"format": 2, "net": "?"}'})
    assert "update srbatch" in refused(path)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"format": 1}', '{"format": 1, "card": 5}', "[" * 100_000],
    ids=lambda text: text[:40],
)
def test_a_malformed_card_is_refused(tmp_path: Path, text: str) -> None:
    assert "card" in refused(write_metadata(tmp_path / "w.safetensors", {"srbatch": text}))


# ---- cards ------------------------------------------------------------------------------------------------


def test_card_survives_json() -> None:
    assert Card.from_json(json.loads(json.dumps(CARD.to_json()))) == CARD


@pytest.mark.parametrize(
    ("name", "usual", "other"),
    [("blur", False, True), ("levels", 5, 4), ("decoder", None, 64), ("replaces", False, True)],
)
def test_the_first_files_say_nothing_of_what_came_later(name: str, usual: Any, other: Any) -> None:
    card = dataclasses.replace(CARD, config=dataclasses.replace(CONFIG, stages=0), scales=(1,))
    assert name not in card.to_json()["config"]  # type: ignore[operator]
    assert getattr(Card.from_json(card.to_json()).config, name) == usual
    changed = dataclasses.replace(card, config=dataclasses.replace(card.config, **{name: other}))
    assert Card.from_json(changed.to_json()) == changed


@pytest.mark.parametrize("key", [f.name for f in dataclasses.fields(Card)])
def test_a_card_without_a_field_is_refused(key: str) -> None:
    data = CARD.to_json()
    del data[key]
    with pytest.raises(ValueError, match=key):
        Card.from_json(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../x"),
        ("scales", [1, 8]),
        ("scales", []),
        ("halo_px", 60),
        ("ramp_px", -1),
        ("halo_px", "32"),
        ("halo_px", 1.5),
        ("halo_px", float("nan")),
        ("ramp_px", True),
        ("scales", 4),
        ("scales", [1.0]),
        *(("config", {**dataclasses.asdict(CARD.config), "mean": [n] * 3}) for n in ("0", float("nan"))),
        ("config", {**dataclasses.asdict(CARD.config), "std": [float("inf")] * 3}),
    ],
)
def test_a_card_out_of_range_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError):
        Card.from_json({**CARD.to_json(), key: value})


@pytest.mark.parametrize(
    ("degradations", "training", "generative"),
    [
        (("downsampling", "jpeg", "noise"), {"samples": 1}, False),
        (("downsampling", "holes"), {"samples": 1}, True),
        (("something new",), {"samples": 1}, True),
        (("downsampling",), {}, True),
        ((), {"samples": 1}, True),
    ],
)
def test_what_is_not_known_to_be_faithful_is_generative(
    degradations: tuple[str, ...], training: dict[str, Any], generative: bool
) -> None:
    card = dataclasses.replace(CARD, degradations=degradations, training=training)
    assert card.generative is generative
    made_from_it = dataclasses.replace(CARD, degradations=card.passed_on, training={"samples": 1})
    assert made_from_it.generative is generative


# ---- names and checksums ----------------------------------------------------------------------------------


def test_weights_that_are_replaced_during_a_run_are_refused(file: Path, tmp_path: Path) -> None:
    """A watcher may wait for weeks before its first photo; outputs must not name weights that made none."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(file.read_bytes())
    model = Model(
        Options(
            inputs=(tmp_path,), out=tmp_path / "hi", size=TargetSize(scale=1), model=str(path), engine="torch"
        )
    )
    rewrite(file, path, lambda tensors: tensors["heads.0.bias"].add_(1))
    with pytest.raises(WeightsError, match=r"model.safetensors were replaced since the run began"):
        _ = model.upscaler


def test_what_is_run_first_has_to_serve_x1_and_is_refused_when_replaced(file: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"

    def model(**changes: Any) -> Model:
        base = {"inputs": (tmp_path,), "out": tmp_path / "hi", "size": TargetSize(scale=4), "engine": "torch"}
        return Model(Options(**{**base, "model": "photo", "first": str(first), **changes}))

    with pytest.raises(WeightsError, match=r"first.safetensors"):
        model()
    card = dataclasses.replace(CARD, scales=(2,))
    weights.save(first, weights.load(file).network, card, "int8")
    with pytest.raises(UsageError, match=r"--first .*: the model tiny-1 1.0 does not serve x1"):
        model()
    first.write_bytes(file.read_bytes())
    found = model()
    assert str(found) == f"tiny-1 1.0, then photo {weights.read_card(weights.find('photo')).version}"
    assert found.passes.between(4) == [1]
    assert found.passes.between(8) == [1, 4]
    assert model(first=None).passes.between(8) == [4]
    rewrite(file, first, lambda tensors: tensors["heads.0.bias"].add_(1))
    with pytest.raises(WeightsError, match=r"first.safetensors were replaced since the run began"):
        _ = found.upscaler


@pytest.mark.parametrize(("first", "then"), [("faithful", "generative"), ("generative", "faithful")])
def test_one_generative_network_of_two_makes_the_output_so(first: str, then: str, tmp_path: Path) -> None:
    network = SuperResolutionNet(CONFIG).eval()
    for name, degradations in (("faithful", ("noise",)), ("generative", ("holes",))):
        card = dataclasses.replace(CARD, degradations=degradations, training={"samples": 1})
        weights.save(tmp_path / f"{name}.safetensors", network, card, "int8")

    def made_by(model: str, first: str | None) -> str:
        paths = {"model": model, "first": first}
        found = {name: str(tmp_path / f"{path}.safetensors") for name, path in paths.items() if path}
        options = Options(inputs=(tmp_path,), out=tmp_path / "hi", size=TargetSize(scale=1), **found)
        return Model(options).source_type.rpartition("/")[2]

    assert made_by(then, first) == "compositeWithTrainedAlgorithmicMedia"
    assert made_by("faithful", "faithful") == made_by("faithful", None) == "algorithmicallyEnhanced"


def test_paths_and_names_are_told_apart() -> None:
    assert weights.find("my/model.safetensors") == Path("my/model.safetensors")
    assert weights.find("model.pth") == Path("model.pth")
    assert weights.find("photo").name == "photo.safetensors"
    with pytest.raises(WeightsError, match=r"'nope'; known: .*photo"):
        weights.find("nope")


def test_released_files_are_checked(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_released_folder", lambda: tmp_path)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(file.read_bytes())
    sums = tmp_path / "SHA256SUMS"
    assert "cannot be checked" in refused(path)
    sums.write_text(f"{'0' * 64}  tiny.safetensors\n")
    assert "checksum" in refused(path)
    sums.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  tiny.safetensors\n")
    assert weights.load(weights.find("tiny")).card == CARD


def test_listing_models_does_not_import_torch() -> None:
    code = (
        "import sys; from srbatch import weights; weights.find('photo'); assert weights.released();"
        "print({'torch', 'numpy', 'safetensors'} & set(sys.modules))"
    )
    root = str(Path(srbatch.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
