"""The pipeline of degradations, its presets and its settings."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from srbatch.card import FAITHFUL_DEGRADATIONS
from tests.trainer.crops import check, error, photo
from trainer.degradations import degrade
from trainer.degradations.degrade import MILD, ORDER, PHOTO, PRESETS, RESTORE, STRONG, Degradations
from trainer.degradations.marks import Text, Watermark
from trainer.degradations.photographic import Blur, Grey, Jpeg, Noise, Poisson
from trainer.degradations.wear import Dust, Scratches

CERTAIN = Degradations.model_validate({kind: {"probability": 1} for kind in ORDER})
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


# --- the pipeline


@settings(max_examples=60)
@given(size=SIZES, seed=st.integers(0, 2**32), name=st.sampled_from([*PRESETS, "certain"]))
def test_any_size_keeps_shape_type_and_range(size: tuple[int, int], seed: int, name: str) -> None:
    pixels = np.random.default_rng(seed).random((*size, 3), dtype=np.float32)
    before = pixels.copy()
    chosen = PRESETS.get(name, CERTAIN)
    result = degrade.degrade(pixels, np.random.default_rng(seed), chosen)
    check(result, pixels.shape)
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(result, pixels)
    assert np.array_equal(result, degrade.degrade(pixels, np.random.default_rng(seed), chosen))


@pytest.mark.parametrize("kind", ORDER)
def test_each_kind_is_pure_and_follows_the_seed_alone(kind: str) -> None:
    pixels = photo()
    pixels.flags.writeable = False
    one = CERTAIN.of(kind).strongest()
    results = [degrade.apply(kind, pixels, np.random.default_rng(seed), one) for seed in (1, 1, 2)]
    check(results[0], pixels.shape)
    assert results[0].tobytes() == results[1].tobytes()
    assert not np.array_equal(results[0], pixels)
    if kind not in ("grey", "jpeg"):  # grey draws nothing, and jpeg may choose the same sampling
        assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("kind", ORDER)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_no_kind_minds_slivers(kind: str, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 0.5, np.float32)
    for seed in range(8):
        for one in (CERTAIN.of(kind), CERTAIN.of(kind).strongest()):
            check(degrade.apply(kind, pixels, np.random.default_rng(seed), one), pixels.shape)


def test_probability_0_leaves_everything_as_it_is() -> None:
    pixels, rng = photo(), np.random.default_rng(3)
    result = degrade.degrade(pixels, rng, Degradations())
    assert np.array_equal(result, pixels)
    assert not np.shares_memory(result, pixels)
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def test_each_kind_strikes_as_often_as_its_probability_says() -> None:
    pixels, rng = photo(8, 8), np.random.default_rng(0)
    chosen = Degradations(noise=Noise(probability=0.3, sigma=(5, 5)))
    struck = sum(not np.array_equal(degrade.degrade(pixels, rng, chosen), pixels) for _ in range(2000))
    assert 0.26 < struck / 2000 < 0.34  # four standard deviations


def test_of_some_crops_one_kind_strikes_alone_chosen_by_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    chosen = Degradations(
        noise=Noise(probability=0.6), jpeg=Jpeg(probability=0.2), grey=Grey(probability=0.4), alone=1.0
    )
    struck = [degrade.degrade_pair(photo(8, 8), rng, chosen)[2] for _ in range(2000)]
    assert {len(kinds) for kinds in struck} == {1}
    found = Counter(kind for (kind,) in struck)
    assert found["noise"] == pytest.approx(1000, abs=90)  # four standard deviations
    assert found["jpeg"] == pytest.approx(333, abs=70)
    mostly = chosen.model_copy(update={"alone": 0.75})
    several = [len(degrade.degrade_pair(photo(8, 8), rng, mostly)[2]) != 1 for _ in range(2000)]
    # of the other quarter, 0.464 suffer one kind alone by chance
    assert sum(several) / 2000 == pytest.approx(0.25 * (1 - 0.464), abs=0.03)


def test_what_struck_is_told() -> None:
    pixels, chosen = photo(24, 24), RESTORE.model_copy(update={"grey": Grey(probability=0.5)})
    for seed in range(40):
        result, target, struck = degrade.degrade_pair(pixels, np.random.default_rng(seed), chosen)
        assert target is pixels
        assert result.tobytes() == degrade.degrade(pixels, np.random.default_rng(seed), chosen).tobytes()
        assert list(struck) == sorted(struck, key=ORDER.index)
        if not struck:
            assert np.array_equal(result, pixels)


def test_nothing_strikes_alone_where_nothing_may() -> None:
    assert np.array_equal(degrade.degrade(photo(), np.random.default_rng(0), Degradations(alone=1)), photo())


@pytest.mark.parametrize("kept", degrade.KEEPABLE)
def test_what_is_kept_strikes_input_and_target_alike(kept: str) -> None:
    pixels = photo(48, 48)
    kinds = {
        "grey": Grey(probability=1),
        "blur": Blur(probability=1, sigma_px=(0.5, 1.5)),
        "noise": Noise(probability=1, sigma=(10, 20), correlated=0.5),
        "text": Text(probability=1, lines=(3, 3)),
        "watermark": Watermark(probability=1, opacity=(0.5, 0.5)),
        "jpeg": Jpeg(probability=1, quality=(20, 60), cropped=0.5),
    }
    chosen, changed = Degradations(**{kept: kinds[kept]}, kept=(kept,)), 0
    for seed in range(5):
        given, target, struck = degrade.degrade_pair(pixels, np.random.default_rng(seed), chosen)
        assert struck == (kept,)
        assert np.array_equal(given, target)
        assert np.array_equal(given, degrade.degrade(pixels, np.random.default_rng(seed), chosen))
        changed += not np.array_equal(target, pixels)
    assert changed >= 3  # white letters may fall on white


@pytest.mark.parametrize("name", ["marks", "wear"])
def test_only_marks_part_the_input_from_a_target_that_keeps_the_rest(name: str) -> None:
    pixels, marks = photo(64, 64), PRESETS[name]
    for seed in range(40):
        given, target, struck = degrade.degrade_pair(pixels, np.random.default_rng(seed), marks)
        alike = np.array_equal(given, target)
        assert alike or set(struck) - set(marks.kept)
        assert np.array_equal(target, pixels) == (not set(struck) & set(marks.kept))
    assert not set(marks.kept) & set(marks.names())
    assert set(PRESETS["wear"].names()) == {"downsampling", "folds", "scratches", "dust"}
    assert {"scratches", "dust", "folds"} <= set(marks.names())


def test_noise_that_is_kept_lies_on_what_was_scratched_before() -> None:
    """The target is the clean photo with the very noise that the input has; both have it all over."""
    chosen = Degradations(
        scratches=Scratches(probability=1), noise=Noise(probability=1, sigma=(4, 4)), kept=("noise",)
    )
    pixels = np.full((64, 64, 3), 0.5, np.float32)
    given, target, _ = degrade.degrade_pair(pixels, np.random.default_rng(1), chosen)
    scratched = degrade.degrade(
        pixels, np.random.default_rng(1), Degradations(scratches=Scratches(probability=1))
    )
    clear = np.abs(scratched - 0.5).max(axis=2) < 0.3  # elsewhere the noise is cut off at white
    np.testing.assert_allclose((given - scratched)[clear], (target - pixels)[clear], atol=1e-6)
    assert (target - pixels).std() == pytest.approx(4 / 255, rel=0.1)


@pytest.mark.parametrize("kind", ["poisson", "holes", "downsampling"])
def test_what_follows_from_the_picture_cannot_be_kept(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"kept names {kind}; grey, blur, noise, text, .* can be kept"):
        Degradations(kept=("jpeg", kind))


def test_of_crops_with_one_kind_alone_what_is_kept_strikes_besides() -> None:
    chosen = Degradations(
        noise=Noise(probability=0.5, sigma=(5, 5)),
        text=Text(probability=0.5),
        dust=Dust(probability=0.5),
        kept=("noise",),
        alone=1.0,
    )
    rng = np.random.default_rng(0)
    struck = [degrade.degrade_pair(photo(32, 32), rng, chosen)[2] for _ in range(300)]
    assert all(len(set(kinds) - {"noise"}) == 1 for kinds in struck)
    assert sum("noise" in kinds for kinds in struck) == pytest.approx(150, abs=35)


def test_wear_is_blurred_but_lettering_is_not() -> None:
    assert ORDER.index("scratches") < ORDER.index("blur") < ORDER.index("noise") < ORDER.index("text")
    assert ORDER.index("watermark") < ORDER.index("jpeg") < ORDER.index("holes") == len(ORDER) - 1


def test_names_are_those_of_the_card() -> None:
    assert Degradations().names() == ("downsampling",)
    assert Degradations(poisson=Poisson(probability=0.1)).names() == ("downsampling", "noise")
    assert FAITHFUL_DEGRADATIONS.issuperset(PHOTO.names())
    assert FAITHFUL_DEGRADATIONS.issuperset(MILD.names())
    assert FAITHFUL_DEGRADATIONS.issuperset(STRONG.names())
    assert set(CERTAIN.names()) - FAITHFUL_DEGRADATIONS == {
        "holes", "text", "watermark", "scratches", "dust", "folds", "grey",
    }  # fmt: skip
    assert set(RESTORE.names()) == set(CERTAIN.names()) - {"grey"}
    assert len(set(CERTAIN.names())) == len(CERTAIN.names())


@pytest.mark.parametrize(
    ("preset", "most"), [(MILD, 0.01), (PHOTO, 0.02), (STRONG, 0.05)], ids=["mild", "photo", "strong"]
)
def test_presets_reach_down_to_almost_nothing(preset: Degradations, most: float) -> None:
    errors = [
        error(degrade.degrade(photo(64, 64), np.random.default_rng(seed), preset), photo(64, 64))
        for seed in range(60)
    ]
    assert min(errors) == 0
    assert most / 100 < max(errors) < most


def test_strongest_takes_the_strong_end_of_every_bound() -> None:
    assert Jpeg(quality=(8, 90)).strongest().quality == (8, 8)
    assert Poisson(photons=(60, 500)).strongest().photons == (60, 60)
    assert Noise(sigma=(0, 30)).strongest().sigma == (30, 30)
    assert Jpeg().strongest().subsampling == Jpeg().subsampling
    assert Jpeg().strongest().probability == 1


# --- settings


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"jpeg": {"quality": (90, 30)}}, ["jpeg.quality", "low bound 90 is above the high bound 30"]),
        ({"jpeg": {"quality": (0, 30)}}, ["jpeg.quality.0", "greater than or equal to 1"]),
        ({"noise": {"probability": 1.5}}, ["noise.probability", "less than or equal to 1"]),
        ({"noise": {"sigma": (-1, 5)}}, ["noise.sigma.0", "greater than or equal to 0"]),
        ({"poisson": {"photons": (1, 5)}}, ["poisson.photons.0", "greater than or equal to 16"]),
        ({"nose": {}}, ["nose", "not permitted"]),
        ({"holes": {"fils": ()}}, ["holes.fils", "not permitted"]),
        ({"holes": {"fills": ()}}, ["holes.fills", "at least 1 item"]),
        ({"holes": {"share": (0.1, 0.9)}}, ["holes.share", "at most 0.5"]),
        ({"blur": {"defocus": 0.6, "motion": 0.6}}, ["blur", "defocus 0.6 and motion 0.6"]),
        ({"kernel": {"bicubic": 0}}, ["kernel", "at least one kernel"]),
        ({"kernel": {"bicubic": float("inf")}}, ["kernel.bicubic", "finite"]),
    ],
)
def test_wrong_settings_are_named(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        Degradations.model_validate(table)
    for word in words:
        assert word in str(raised.value)


def test_settings_are_frozen_and_survive_json_and_workers() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RESTORE.jpeg.quality = (1, 2)  # type: ignore[misc]
    assert Degradations.model_validate_json(RESTORE.model_dump_json()) == RESTORE
    assert pickle.loads(pickle.dumps(RESTORE)) == RESTORE
