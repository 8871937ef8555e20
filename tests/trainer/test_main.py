"""``python -m trainer`` as a user meets it: words, exit codes, files."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srbatch import network, weights
from srbatch.card import Card, NetworkConfig
from srbatch.network import SuperResolutionNet
from tests.conftest import crop
from tests.networks import ThinEncoder
from trainer import __main__ as door

TINY = """
[network]
encoder = "resnet18"
features = 4
refine_blocks = 0
[start]
encoder = "random"
[data]
valid_percent = 50.0
valid_crops = 2
workers = 0
[release]
name = "tiny"
[[phases]]
name = "x2"
size = 64
scale = 2
samples_per_epoch = 4
batch = 2
lr = 1e-4
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Trainer = Callable[..., Result]


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str]) -> Trainer:
    """Run the command in this process."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            door.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that adds almost nothing."""
    torch.manual_seed(0)
    config = NetworkConfig("resnet18", features=4, refine_blocks=0, stages=1)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    card = Card("m", "1", "d", "l", config, (1, 2), 32, 32, ("downsampling",), {"samples": 1})
    weights.save(path, SuperResolutionNet(config).eval(), card, "fp16")
    return path


def test_alone_it_explains_itself_and_fails() -> None:
    done = subprocess.run([sys.executable, "-m", "trainer"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for word in ("PHOTOS", "--out", "smoke", "--encoder-weights", "--help"):
        assert word in done.stderr


def test_photos_become_weights_that_srbatch_runs(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, toml: Path
) -> None:
    from srbatch import cli

    out = tmp_path / "run"
    done = trainer(photo_folder, "--preset", "smoke", "--config", toml, "--out", out)
    assert done.code == 0, done.err
    assert re.search(r"x2 +32 px +64 px", done.err), "the schedule is told before it begins"
    for place in (out, tmp_path / "hi"):
        place.mkdir(exist_ok=True)
    crop().save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as ended:
        cli.main(
            [
                "upscale",
                str(tmp_path / "a.png"),
                f"--model={out}/tiny.safetensors",
                "--scale=2",
                f"--out={tmp_path}/hi/a.png",
                "--device=cpu",
            ]
        )
    assert ended.value.code == 0
    with Image.open(tmp_path / "hi" / "a.png") as picture:
        assert picture.size == (128, 96)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "nonsense"], "known are article, release, restore, retouch, smoke"),
        (["--preset", "smoke", "--set", "optimiser.emma=0.5"], "ema is the nearest"),
        (["--preset", "smoke", "--set", "run.device=abacus"], "not a device"),
        (["--preset", "smoke", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
    ],
)
def test_what_is_asked_wrongly(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = trainer(photo_folder, "--out", tmp_path / "run", *arguments)
    assert done.code in (2, 5)
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_folder_without_photos(trainer: Trainer, tmp_path: Path, toml: Path) -> None:
    (tmp_path / "none").mkdir()
    done = trainer(tmp_path / "none", "--preset", "smoke", "--config", toml, "--out", tmp_path / "run")
    assert done.code == 2
    assert "no photo to train with" in done.err


def test_weights_that_are_none(trainer: Trainer, photo_folder: Path, tmp_path: Path, toml: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    arguments = ("--preset", "smoke", "--config", toml, "--out", tmp_path / "run")
    for flag in ("--weights", "--encoder-weights"):
        done = trainer(photo_folder, *arguments, flag, tmp_path / "w.safetensors")
        assert done.code == 4, done.err
        assert "w.safetensors" in done.err
        assert "reading every photo" not in done.err, "which may take hours"


@pytest.mark.parametrize("model", ["photo", "restore"])
def test_weights_of_another_network_are_told_before_photos_are_read(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, model: str
) -> None:
    done = trainer(photo_folder, "--preset", "retouch", "--weights", model, "--out", tmp_path / "run")
    assert done.code == 4, done.err
    assert "change network.encoder, features, refine_blocks, levels, decoder or replaces" in done.err
    assert "reading every photo" not in done.err


def test_vgg_weights_that_are_none_are_found_before_photos_are_read(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, toml: Path
) -> None:
    loss = "losses.default={ features = 1.0, layers = { relu1_2 = 1.0 } }"
    arguments = ("--preset", "smoke", "--config", toml, "--out", tmp_path / "run", "--set", loss)
    done = trainer(photo_folder, *arguments, "--vgg-weights", tmp_path / "none.pth")
    assert done.code == 4, done.err
    assert "none.pth" in done.err
    assert "reading every photo" not in done.err


def test_a_mistyped_command_is_not_taken_for_photos(
    trainer: Trainer, photo_folder: Path, tmp_path: Path
) -> None:
    done = trainer("prewiew", photo_folder, "--out", tmp_path / "sheet.png")
    assert done.code == 2
    assert "prewiew is no command and no folder; preview is the nearest command" in done.err
    assert not (tmp_path / "sheet.png").exists()


def test_a_folder_may_have_a_name_like_a_command(trainer: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "trains"
    folder.mkdir()
    with contextlib.chdir(tmp_path):
        done = trainer("trains", "--preset", "smoke", "--out", tmp_path / "run")
    assert "trains: no photo to train with" in done.err


def test_no_folder_is_made_where_there_are_no_photos(trainer: Trainer, tmp_path: Path) -> None:
    for command in ([], ["preview"], ["lr-find"]):
        done = trainer(*command, tmp_path / "nowhere", "--preset", "smoke", "--out", tmp_path / "a" / "b.png")
        assert done.code == 2
        assert "nowhere: there is no such folder of photos" in done.err
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["o'b.safetensors", "'quoted'.safetensors"])
def test_a_path_is_taken_as_it_is(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, toml: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    arguments = ("--preset", "smoke", "--config", toml, "--out", tmp_path / "run")
    for flag in ("--weights", "--encoder-weights"):
        done = trainer(photo_folder, *arguments, flag, tmp_path / name)
        assert done.code == 4, done.err
        assert f"{tmp_path / name}" in done.err
        assert f"'{tmp_path}" not in done.err


def test_config_prints_a_file_that_config_takes(trainer: Trainer, tmp_path: Path, toml: Path) -> None:
    given = ("--preset", "smoke", "--config", toml, "--set", "phases.0.lr=3e-4")
    done = trainer("config", *given)
    assert done.code == 0, done.err
    assert "lr = 0.0003\n" in done.out
    (tmp_path / "all.toml").write_text(done.out)
    assert trainer("config", "--preset", "smoke", "--config", tmp_path / "all.toml").out == done.out


def test_preview_writes_a_sheet(trainer: Trainer, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    done = trainer("preview", photo_folder, "--preset", "smoke", "--size", 64, "-n", 2, "--out", out)
    assert done.code == 0, done.err
    with Image.open(out) as sheet:
        assert np.asarray(sheet).std() > 10


def test_preview_makes_the_folder_of_its_sheet(trainer: Trainer, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "newer" / "sheet.png"
    done = trainer("preview", photo_folder, "--preset", "smoke", "--size", 64, "-n", 1, "--out", out)
    assert done.code == 0, done.err
    assert out.is_file()


def test_preview_is_of_the_last_phase(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer import preview

    drawn: list[tuple[set[tuple[int, ...]], int]] = []

    def write_sheet(crops: list[np.ndarray], _: object, out: Path, *, factor: int, seed: int) -> None:
        drawn.append(({crop.shape for crop in crops}, factor))

    monkeypatch.setattr(preview, "write_sheet", write_sheet)
    values = ("phases.0.size=32", "phases.3.size=64", "phases.3.scale=2", "phases.3.heads={}")
    given = [f"--set={value}" for value in values]
    done = trainer("preview", photo_folder, "--preset=smoke", *given, "--out", tmp_path / "sheet.png")
    assert done.code == 0, done.err
    assert drawn == [({(64, 64, 3)}, 2)]
    assert "the last phase's" in trainer("preview", "--help").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "66"], "--size 66 is not a multiple of 4, the scale of phase x4"),
        (["--size", "0"], "'--size': 0 is not in the range"),
        (["--size", "-4"], "'--size': -4 is not in the range"),
        (["-n", "0"], "'-n': 0 is not in the range"),
        (["--out", "{file}.jpg"], "taken.jpg: the sheet is a .png file"),
        (["--out", "{file}/sheet.png"], "taken: a file is where this folder would be"),
    ],
)
def test_previews_that_cannot_be(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    file = tmp_path / "taken"
    file.write_text("kept")
    given = [argument.format(file=file) for argument in arguments]
    whole = ("--preset", "smoke", "--size", 64, "--out", tmp_path / "sheet.png", *given)
    done = trainer("preview", photo_folder, *whole)
    assert done.code == 2, done.err
    assert said in done.err
    assert (sorted(tmp_path.iterdir()), file.read_text()) == ([file, photo_folder], "kept")


@pytest.mark.parametrize("below", ["", "run"])
@pytest.mark.parametrize("command", ["train", "lr-find"])
def test_a_run_does_not_go_where_a_file_is(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, command: str, below: str
) -> None:
    file = tmp_path / "taken"
    file.write_text("kept")
    done = trainer(command, photo_folder, "--preset", "smoke", "--out", file / below)
    assert done.code == 2, done.err
    assert "a file is where this folder would be; choose another --out" in done.err
    assert file.read_text() == "kept"


def test_no_sheet_replaces_a_photo_or_another_file(
    trainer: Trainer, photo_folder: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in photo_folder.iterdir()}
    among = next(iter(before))
    (tmp_path / "taken.png").write_text("kept")
    for out, said in (
        (among, "--overwrite replaces it"),
        (photo_folder / "sheet.png", "lies inside the input"),
        (tmp_path / "taken.png", "--overwrite replaces it"),
    ):
        done = trainer("preview", photo_folder, "--preset", "smoke", "--size", 64, "--out", out)
        assert done.code == 2
        assert said in done.err
    done = trainer("preview", photo_folder, "--preset", "smoke", "--size", 64, "--out", among, "--overwrite")
    assert done.code == 2
    assert {path: path.read_bytes() for path in photo_folder.iterdir()} == before
    assert (tmp_path / "taken.png").read_text() == "kept"


def test_sheets_of_an_evaluation_do_not_join_its_pictures(
    trainer: Trainer, model: Path, photo_folder: Path
) -> None:
    before = sorted(photo_folder.iterdir())
    done = trainer(
        "evaluate", "--weights", model, "--data", photo_folder, "--scale", 1, "--out", photo_folder
    )
    assert done.code == 2
    assert "lies inside the input" in done.err
    assert sorted(photo_folder.iterdir()) == before


def test_version(trainer: Trainer) -> None:
    assert trainer("--version").out.startswith("trainer of srbatch, version ")


def test_lr_find_writes_a_plot(
    trainer: Trainer, photo_folder: Path, tmp_path: Path, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the configuration gives a rate, as here."""
    monkeypatch.setattr(network, "ResNetEncoder", ThinEncoder)  # a hundred steps
    arguments = ("--preset", "smoke", "--config", toml, "--out", tmp_path / "lr")
    done = trainer("lr-find", photo_folder, *arguments)
    assert done.code == 0, done.err
    assert re.search(r"x2: learning rate \d\.\d\de-\d\d", done.err)
    assert (tmp_path / "lr" / "lr-x2.png").stat().st_size > 0


def test_grow_adds_a_stage_that_is_not_yet_among_the_scales(
    trainer: Trainer, model: Path, tmp_path: Path
) -> None:
    done = trainer("grow", model, "--out", tmp_path / "larger.safetensors")
    assert done.code == 0, done.err
    card = weights.read_card(tmp_path / "larger.safetensors")
    assert (card.config.stages, card.scales) == (2, (1, 2))


@pytest.mark.parametrize("command", ["export", "grow", "mix"])
def test_a_model_is_not_replaced_by_what_is_made_of_it(
    trainer: Trainer, model: Path, tmp_path: Path, command: str
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(model.read_bytes())
    models = [model, mine] if command == "mix" else [mine]
    done = trainer(command, *models, "--out", mine)
    assert done.code == 2
    assert "mine.safetensors is the model itself; choose another name" in done.err
    assert mine.read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("command", "taken"),
    [("export", "w.safetensors"), ("grow", "w.safetensors"), ("mix", "w.safetensors"), ("onnx", "m-x2.onnx")],
)
def test_a_file_is_not_replaced_unless_that_is_asked(
    trainer: Trainer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, taken: str
) -> None:
    if command == "onnx":  # it takes long, and is tested by itself
        monkeypatch.setattr("trainer.exporting.onnx_export.export_onnx", lambda *given: given[2].unlink(True))
    file = tmp_path / taken
    file.write_text("kept")
    asked = {"mix": ["mix", model, model], "onnx": ["export", model, "--onnx"]}.get(command, [command, model])
    asked += ["--out", tmp_path if command == "onnx" else file]
    done = trainer(*asked)
    assert done.code == 2
    assert f"{file} exists; --overwrite replaces it" in done.err
    assert file.read_text() == "kept"
    done = trainer(*asked, "--overwrite")
    assert done.code == 0, done.err
    assert not file.exists() or file.read_bytes() != b"kept"


def test_weights_to_begin_with_are_not_replaced_by_those_of_the_run(
    trainer: Trainer, photo_folder: Path, model: Path, tmp_path: Path, toml: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "tiny.safetensors").write_bytes(model.read_bytes())
    done = trainer(
        *(photo_folder, "--preset", "smoke", "--config", toml, "--out", out),
        *("--weights", out / "tiny.safetensors"),
    )
    assert done.code == 2, done.err
    assert "tiny.safetensors is the model itself" in done.err
    assert "reading every photo" not in done.err


def test_export_changes_the_storage_alone(trainer: Trainer, model: Path, tmp_path: Path) -> None:
    done = trainer("export", model, "--dtype", "fp32", "--out", tmp_path / "w.safetensors")
    assert done.code == 0, done.err
    assert "within" in done.err
    old, new = weights.load(model), weights.load(tmp_path / "w.safetensors")
    assert old.card == new.card
    assert all(
        torch.equal(a, b)
        for a, b in zip(old.network.state_dict().values(), new.network.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dtype", "fp16"], "--dtype cannot be had with --onnx"),
        (["--halo-photos", "/nowhere"], "--halo-photos cannot be had with --onnx"),
        (["--dtype", "int8", "--halo-photos", "/nowhere"], "--dtype and --halo-photos cannot be had"),
    ],
)
def test_export_refuses_what_would_change_no_onnx_file(
    trainer: Trainer, model: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = trainer("export", model, "--onnx", "--out", tmp_path / "onnx", *arguments)
    assert done.code == 2, done.err
    assert said in done.err
    assert not (tmp_path / "onnx").exists()


def test_export_stores_int8_where_nothing_else_is_asked(
    trainer: Trainer, model: Path, tmp_path: Path
) -> None:
    done = trainer("export", model, "--out", tmp_path / "w.safetensors")
    assert done.code == 0, done.err
    assert "int8" in done.err


def test_evaluate_prints_a_table(trainer: Trainer, model: Path, tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    crop(64, 64).save(tmp_path / "hr" / "a.png")
    arguments = ("--weights", model, "--data", tmp_path / "hr", "--scale", 2, "--device", "cpu")
    done = trainer("evaluate", *arguments, "--out", tmp_path / "results")
    assert done.code == 0, done.err
    assert "| bicubic |" in done.out
    assert (tmp_path / "results" / "results.md").read_text() == done.out


def test_evaluate_takes_the_factors_and_strengths_that_srbatch_takes(
    trainer: Trainer, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "hr").mkdir()
    crop(66, 66).save(tmp_path / "hr" / "a.png")
    arguments = (
        "evaluate",
        "--weights",
        model,
        "--data",
        tmp_path / "hr",
        "--device",
        "cpu",
        "--out",
        tmp_path,
    )
    done = trainer(*arguments, "--scale", 3)
    assert done.code == 0, done.err
    assert "**head:** x2, and its result through x2, reduced by Lanczos" in done.out
    for scale, said in (
        (0, "1 to 8"),
        (8, "reaches 4; use --scale 4, or other --weights"),
        (16, "1 to 8"),
        (2.5, "not a valid"),
    ):
        done = trainer(*arguments, "--scale", scale)
        assert done.code == 2, done.err
        assert said in done.err
    for strength in ("-0.1", "1.5", "nan"):
        done = trainer(*arguments, "--scale", 2, "--strength", strength)
        assert done.code == 2, done.err
        assert f"--strength {strength}: from 0 (bicubic) to 1" in done.err


@pytest.mark.parametrize("command", ["train", "lr-find"])
def test_a_run_among_the_photos_is_refused_and_leaves_nothing_there(
    trainer: Trainer, photo_folder: Path, command: str
) -> None:
    """The next start would take its panels for photos."""
    done = trainer(command, photo_folder, "--preset", "smoke", "--out", photo_folder / "run")
    assert done.code == 2
    assert "lies inside the input" in done.err
    assert not (photo_folder / "run").exists()
