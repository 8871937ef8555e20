"""Configurations: presets, files and single values over them, and mistakes that say where and what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from srbatch.card import STRIDE
from srbatch.errors import UsageError
from trainer.config import LAYERS, Config, Phase
from trainer.data import recipe
from trainer.degradations.degrade import PHOTO, RESTORE, Degradations
from trainer.listing import as_toml
from trainer.reading import load, parse, presets

PHASE = {"name": "one", "size": 64, "scale": 2, "samples_per_epoch": 10, "batch": 4}


def made(**tables: Any) -> Config:
    return parse({"phases": [PHASE], **tables}, "test")


def phase(**values: Any) -> Phase:
    return made(phases=[PHASE | values]).phases[0]


def refused(*values: str, preset: str = "smoke", file: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        load(preset, file, values)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


# ---- presets ----------------------------------------------------------------------------------------------


def test_the_presets_are_those_of_the_help() -> None:
    assert presets() == ("article", "release", "restore", "retouch", "smoke")


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads(name: str) -> None:
    loaded = load(name)
    for one in loaded.phases:
        assert one.size % (STRIDE * one.scale) == 0
        assert loaded.network.with_stages(one.stages).scales == one.scales
        assert one.samples_per_epoch >= one.batch


@pytest.mark.parametrize(
    "values",
    [
        (),
        (
            "phases.0.heads={1 = 0.5}",
            'start.weights="a "quoted" \\\\ name.safetensors"',
            "phases.0.degradations.jpeg.quality=[3, 7]",
            "optimiser.weight_decay=1e-7",
            'losses."with a blank"={pixel = 2.0, layers = { relu2_2 = 0.25 }, features = 2.0}',
            "phases.0.loss='\"with a blank\"'",
        ),
    ],
    ids=["as it is", "changed"],
)
@pytest.mark.parametrize("name", presets())
def test_a_listing_is_a_file_of_the_same_configuration(
    name: str, values: tuple[str, ...], file: Path
) -> None:
    config = load(name, values=values)
    file.write_text(as_toml(config), encoding="utf-8")
    assert load(name, file) == config


def test_a_listing_explains_every_key_once() -> None:
    text = as_toml(load("release"))
    assert text.count("# the highest rate of the one-cycle schedule\n") == 1
    assert "# libjpeg's quality\nquality = [30, 100]\n" in text
    assert '; one of "l1", "mse"\npixel_kind = "l1"\n' in text
    assert "# heads is not given\n" in text
    assert max(map(len, text.splitlines())) <= 110


def test_article_is_the_published_recipe() -> None:
    article = load("article")
    assert [(p.size // p.scale, p.size, p.train, p.epochs) for p in article.phases] == [
        (size // 2, size, train, 10) for size in (128, 256, 512) for train in ("decoder", "all")
    ]
    batches = [p.batch for p in article.phases]
    assert batches == sorted(batches, reverse=True)
    loss = article.losses["default"]
    assert (loss.layers, loss.batch_norm) == ({"relu3_3": 5, "relu4_3": 15, "relu5_3": 2}, True)
    assert (loss.pixel_kind, loss.gram, loss.gram_layer_power, loss.normalise) == ("mse", 5000, 2, False)


def test_release_trains_every_head_and_only_then_the_last_stage_for_texture() -> None:
    phases = load("release").phases
    *_, faithful = (phase for phase in phases if phase.loss == "pixel")
    assert (faithful.train, faithful.head_weights.keys()) == ("all", {1, 2, 4})
    later = phases[phases.index(faithful) + 1 :]
    assert {(phase.train, phase.loss) for phase in later} == {("stage", "perceptual")}


def test_an_unknown_preset_names_the_known() -> None:
    assert "article, release, restore, retouch, smoke" in refused(preset="smok")


def _fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None, Any]]:
    for name, field in model.model_fields.items():
        yield f"{path}{name}", field.description, field.annotation
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _fields(kind, f"{path}{name}.")


# ---- mistakes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "where", "nearest"),
    [
        ("netwrok.features=8", "netwrok", "network"),
        ("run.sed=1", "run.sed", "seed"),
        ("phases.0.sample_per_epoch=1", "phases.0.sample_per_epoch", "samples_per_epoch"),
        ("losses.default.pixl=1", "losses.default.pixl", "pixel"),
        ("degradations.jpeg.probabilty=1", "degradations.jpeg.probabilty", "probability"),
        ("degradations.jpg={}", "degradations.jpg", "jpeg"),
    ],
)
def test_an_unknown_key_names_the_nearest(value: str, where: str, nearest: str) -> None:
    assert f"{where}: there is no such key; {nearest} is the nearest" in refused(value)


def test_an_unknown_key_of_a_loss_that_has_the_name_of_a_key() -> None:
    """The preset's loss `pixel` is no field, though a loss has one of that name."""
    assert "pixel_kind is the nearest" in refused("losses.pixel.pixel_knd=mse", preset="release")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("phases.0.lr=fast", "phases.0.lr: a rate between 0 and 10 is meant, or \"find\" (given: 'fast')"),
        ("phases.0.lr=0", "phases.0.lr: a rate"),
        ("phases.0.lr=nan", "phases.0.lr: a rate"),
        ("phases.0.lr=true", "phases.0.lr: a rate"),
        ("phases.0.size=100", "phases.0: size 100 is not a multiple of 32: 32 x scale"),
        ("phases.3.size=96", "phases.3: size 96 is not a multiple of 128"),
        ("phases.0.epochs=0", "phases.0.epochs: input should be greater than or equal to 1 (given: 0)"),
        ("phases.0.scale=3", "phases.0.scale: input should be 1, 2, 4 or 8 (given: 3)"),
        ("phases.0.name=A b", "phases.0.name: string should match"),
        ("phases.0.train=encoder", "phases.0.train: input should be 'stage', 'decoder', 'coarse' or 'all'"),
        ("phases.0.heads.2=1", "phases.0: heads names [2]; at scale 1 there are (1,)"),
        ("phases.0.heads.1=0", "phases.0: heads gives every head the weight 0"),
        ("phases.0.heads.1=-1", "phases.0.heads.1: input should be greater than or equal to 0"),
        (
            "phases.1.heads.1=1",
            "phases.1: the newest stage is trained, but heads gives its head, 2, no weight",
        ),
        ("phases.0.loss=other", "phase x1: no loss is named 'other'; there are default"),
        ("phases.1.name=x1", "two phases have one name"),
        ("phases=[]", "phases is empty"),
        (
            "phases.1.degradations.kept=['jpeg']",
            "phase x2-stage: degradations keep jpeg, as is for x1 alone",
        ),
        ("network.replaces=true", "phase x2-stage: x2, but a network that replaces gives x1 alone"),
        ("network.levels=3", "network.levels: input should be greater than or equal to 4"),
        ("network.decoder=4", "network.decoder: input should be greater than or equal to 8"),
        ("degradations.kept=['dust']", "degradations.kept: kept names dust"),
        ("data.reduce=[2, 1]", "data: reduce is (2.0, 1.0)"),
        ("data.reduce=[0.5, 1]", "data: reduce is (0.5, 1.0)"),
        ("data.valid_percent=100", "data.valid_percent: input should be less than 100"),
        ("losses.default.pixel=0", "losses.default: pixel, colour, features and gram are all 0"),
        ("losses.default.gram=1", "losses.default: features or gram is above 0, but layers names none"),
        (
            "losses.default.layers.relu1_2=1",
            "losses.default: layers names some, but neither features nor gram",
        ),
        ("losses.default.layers.relu9_9=1", "losses.default.layers: VGG-16 has no relu9_9; it has relu1_1"),
        ("losses.default.layers.relu1_2=-1", "losses.default.layers.relu1_2: input should be greater"),
        ("losses.default.pixel=inf", "losses.default.pixel: input should be a finite number"),
        ("optimiser.betas=[0.9, 1.5]", "optimiser.betas.1: input should be less than 1"),
        ("optimiser.ema=1", "optimiser.ema: input should be less than 1"),
        ("run.seed=-1", "run.seed: input should be greater"),
        ("run.seed=9223372036854775808", "run.seed: input should be less"),
        ("run.precision=fp16", "run.precision: input should be 'auto', 'fp32' or 'bf16'"),
        ("network.features=many", "network.features: input should be a valid integer"),
        ("degradations.jpeg.quality=[90, 10]", "degradations.jpeg.quality: the low bound 90 is above"),
        ("degradations=foto", "there is no such preset; known are photo, mild, strong, restore"),
        ("degradations=3", "degradations: input should be"),
    ],
)
def test_a_wrong_value_says_where_and_what(value: str, said: str) -> None:
    assert said in refused(value)


def test_strings_come_last_and_are_no_toml() -> None:
    given = load("smoke", None, ["run.device=cpu"], {"run.device": "'cuda'", "start.weights": "o'b"})
    assert (given.run.device, given.start.weights) == ("'cuda'", Path("o'b"))


def test_scales_may_not_fall() -> None:
    with pytest.raises(UsageError, match="does not shrink"):
        made(phases=[PHASE, PHASE | {"name": "two", "scale": 1}])


def test_a_stage_alone_must_be_the_only_new_one() -> None:
    far = {"name": "two", "size": 128, "scale": 4, "train": "stage"}
    with pytest.raises(UsageError, match="from x1 to x4 several stages"):
        made(phases=[PHASE | {"scale": 1}, PHASE | far])
    assert made(phases=[PHASE, PHASE | far])


def test_a_layer_with_weight_0_counts_as_none() -> None:
    with pytest.raises(UsageError, match="layers names none"):
        made(losses={"default": {"features": 1, "layers": {"relu1_2": 0}}})
    loss = made(losses={"default": {"features": 1, "layers": {"relu1_2": 0, "relu2_2": 1}}}).losses["default"]
    assert loss.used_layers == ("relu2_2",)


def test_terms_of_a_preset_can_be_turned_off() -> None:
    given = [f"losses.perceptual.{term}=0" for term in ("features", "gram")]
    loss = load("release", values=given).losses["perceptual"]
    assert not loss.uses_vgg
    assert loss.used_layers


def test_missing_values_and_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse({"phases": [{"name": "one"}], "run": {"seed": "x"}}, "my.toml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "my.toml: phases.0.size: field required"
    assert len(lines) == 5


# ---- a file and single values -----------------------------------------------------------------------------


def test_a_file_merges_tables_and_replaces_lists(file: Path) -> None:
    file.write_text(
        """
        [degradations.jpeg]
        probability = 0.25
        [optimiser]
        clip = 2.0
        [[phases]]
        name = "only"
        size = 32
        scale = 1
        loss = "pixel"
        samples_per_epoch = 4
        batch = 2
        """
    )
    merged = load("release", file)
    assert [p.name for p in merged.phases] == ["only"]
    assert merged.optimiser.clip == 2
    assert merged.optimiser.ema == load("release").optimiser.ema
    # The preset gives its degradations by a name; the rest of that is kept.
    assert merged.degradations.jpeg == PHOTO.jpeg.model_copy(update={"probability": 0.25})
    assert merged.degradations.noise == PHOTO.noise


def test_a_file_may_name_degradations(file: Path) -> None:
    file.write_text('degradations = "restore"\n')
    assert load("release", file, ["degradations.text.probability=0"]).degradations == RESTORE.model_copy(
        update={"text": RESTORE.text.model_copy(update={"probability": 0})}
    )


def test_a_phase_may_have_degradations_of_its_own(file: Path) -> None:
    file.write_text(
        """
        degradations = "restore"
        [[phases]]
        name = "fill"
        size = 64
        scale = 1
        samples_per_epoch = 8
        batch = 4
        degradations = { holes = { probability = 0.75 }, noise = { sigma = [0, 9] } }
        [[phases]]
        name = "mild"
        size = 64
        scale = 1
        samples_per_epoch = 8
        batch = 4
        degradations = "photo"
        [[phases]]
        name = "as-the-run"
        size = 64
        scale = 1
        samples_per_epoch = 8
        batch = 4
        """
    )
    config = load("smoke", file, ["degradations.text.probability=0.5", "phases.0.degradations.jpeg.double=1"])
    fill, mild, rest = (config.degradations_of(phase) for phase in config.phases)
    expected = RESTORE.model_dump()
    expected["text"]["probability"] = 0.5
    assert rest == config.degradations == Degradations.model_validate(expected)
    expected["holes"]["probability"] = 0.75
    expected["noise"]["sigma"] = (0, 9)
    expected["jpeg"]["double"] = 1
    assert fill == Degradations.model_validate(expected)
    assert mild == PHOTO
    assert recipe(config, config.phases[0]).degradations == fill
    for value, said in [
        ("phases.0.degradations=foto", "there is no such preset"),
        ("phases.0.degradations.hole={}", "phases.0.degradations.hole: there is no such key; holes is"),
        ("phases.0.degradations.holes.siz_px=[1, 2]", "size_px is the nearest"),
        ("phases.0.degradations.holes.probability=2", "phases.0.degradations.holes.probability"),
    ]:
        assert said in refused(value, file=file)


@pytest.mark.parametrize(
    ("text", "said"), [("[run", "is not TOML"), ("[run]\nsed = 1", "mine.toml: run.sed")]
)
def test_a_wrong_file_is_named(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    assert said in refused(file=file)


def test_a_file_may_begin_with_the_mark_of_windows_editors(file: Path) -> None:
    file.write_text("[run]\nseed = 7\n", encoding="utf-8-sig")
    assert load("smoke", file).run.seed == 7


def test_a_file_that_cannot_be_read(file: Path) -> None:
    assert f"{file}: No such file" in refused(file=file)
    file.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in refused(file=file)


@pytest.mark.parametrize(
    ("value", "read", "expected"),
    [
        ("run.seed=7", lambda c: c.run.seed, 7),
        ("run.seed = 7", lambda c: c.run.seed, 7),
        ("phases.0.lr=2e-4", lambda c: c.phases[0].lr, 2e-4),
        ("phases.0.lr=find", lambda c: c.phases[0].lr, "find"),
        ("phases.3.heads.2=0.25", lambda c: c.phases[3].heads[2], 0.25),
        ("phases.2.heads={ 1 = 0.1, 2 = 2.0 }", lambda c: c.phases[2].head_weights, {1: 0.1, 2: 2.0}),
        ("run.device=cuda:1", lambda c: c.run.device, "cuda:1"),
        ('run.device="cpu"', lambda c: c.run.device, "cpu"),
        ("vgg_weights=/a b/vgg=16.pth", lambda c: c.vgg_weights, Path("/a b/vgg=16.pth")),
        ("data.reduce=[1.0, 2]", lambda c: c.data.reduce, (1, 2)),
        ("data.flip=false", lambda c: c.data.flip, False),
        ("degradations=restore", lambda c: c.degradations, RESTORE),
        ("degradations.jpeg.probability=0.5", lambda c: c.degradations.jpeg.probability, 0.5),
    ],
)
def test_single_values(value: str, read: Any, expected: object) -> None:
    assert read(load("smoke", None, [value])) == expected


def test_a_loss_of_another_name_is_for_a_phase() -> None:
    """Else a name that was written wrongly would change nothing, and nobody would hear of it."""
    said = refused("losses.perceptal.gram=0", "losses.perceptal.features=0", preset="release")
    assert "losses.perceptal: no phase has this loss; they have perceptual, pixel" in said
    loaded = load("smoke", None, ["losses.other.pixel=3", "phases.0.loss=other"])
    assert loaded.losses["other"].pixel == 3


def test_later_values_are_over_earlier_ones() -> None:
    values = ["degradations=restore", "degradations.jpeg.probability=0.125", "run.seed=1", "run.seed=2"]
    loaded = load("smoke", None, values)
    assert loaded.degradations.jpeg == RESTORE.jpeg.model_copy(update={"probability": 0.125})
    assert loaded.run.seed == 2


@pytest.mark.parametrize("value", ["run.seed.low=1", "vgg_weights.a=1"])
def test_places_that_are_not_there(value: str) -> None:
    path = value.partition("=")[0]
    said = refused(value)
    assert path in said or path.rpartition(".")[0] in said


@pytest.mark.parametrize("number", ["4", "-1", "first", "+1", "\u0661", ""])
@pytest.mark.parametrize("below", [".lr=1e-4", "={}"])
def test_phases_are_counted_from_0(number: str, below: str) -> None:
    with pytest.raises(UsageError) as raised:
        load("smoke", values=[f"phases.{number}{below}"])
    assert str(raised.value) == (
        f"--set phases.{number}{below}: {number!r} is no number from 0, the first, to 3, the last of 4"
    )


def test_a_value_without_equals_shows_what_is_meant() -> None:
    assert "key.key=value is meant" in refused("run.seed")


# ---- what follows from it ---------------------------------------------------------------------------------


def test_what_a_phase_implies() -> None:
    one = phase(size=128, scale=4, samples_per_epoch=10, batch=4, epochs=3, heads={1: 0, 2: 1})
    assert (one.stages, one.scales, one.head_weights) == (2, (1, 2, 4), {2: 1.0})
    assert (one.steps_per_epoch(), one.steps_per_epoch(2)) == (3, 2)
    added_up = phase(samples_per_epoch=10, batch=4, accumulate=2)
    assert (added_up.steps_per_epoch(), added_up.steps_per_epoch(2)) == (4, 2), "updates are whole"
    assert phase(scale=2).head_weights == {2: 1.0}


def test_layers_are_vgg_s_thirteen() -> None:
    assert len(LAYERS) == 13
    assert (LAYERS[0], LAYERS[4], LAYERS[-1]) == ("relu1_1", "relu3_1", "relu5_3")


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("run.device=cpu", True),
        ("data.workers=7", True),
        ("data.cache_gb=1", True),
        ("run.checkpoint_minutes=1", True),
        ("release.name=other", True),
        ("run.seed=99", False),
        ("run.precision=fp32", False),
        ("data.flip=false", False),
        ("phases.0.epochs=9", False),
        ("degradations.jpeg.probability=0.1", False),
    ],
)
def test_identity_is_what_changes_the_weights(value: str, same: bool) -> None:
    assert (load("smoke").identity("p") == load("smoke", None, [value]).identity("p")) is same


def test_identity_does_not_depend_on_how_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(folder: str) -> object:
        values = [f"{key}={folder}w.pth" for key in ("vgg_weights", "start.encoder", "start.weights")]
        return load("smoke", None, values).identity("p")

    monkeypatch.chdir("/")
    assert of("models/") == of("/models/") != of("/other/")
    assert load("smoke", None, ["start.weights=photo"]).identity("p")["start"]["weights"] == "photo"


def test_identity_has_the_photos_and_is_plain() -> None:
    one = load("release").identity("a")
    assert one != load("release").identity("b")
    assert json.loads(json.dumps(one)) == one


def test_nothing_changes_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load("smoke").run.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(("path", "description", "kind"), [*_fields(Config)])
def test_every_value_is_described(path: str, description: str | None, kind: Any) -> None:
    """A number's or a tuple's own docstring is Python's, and says nothing of the value."""
    is_table = isinstance(kind, type) and issubclass(kind, BaseModel)
    assert description or (is_table and kind.__doc__)
