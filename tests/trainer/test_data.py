"""Pairs: the same bytes whoever makes them, what they look like, and in which order they come."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from tests.conftest import crop
from trainer import data
from trainer.config import Phase
from trainer.data import Pairs, Recipe, Steps, Stores, loaders, recipe, sample_crops
from trainer.degradations.degrade import RESTORE, Degradations
from trainer.degradations.reduction import bicubic_downsample
from trainer.photos import Store, decode, find_all
from trainer.reading import parse

RECIPE = Recipe(seed=1, size=64, scale=2, reduce=(1.0, 1.3), flip=True, degradations=RESTORE)
PLAIN = replace(RECIPE, degradations=Degradations(), reduce=(1.0, 1.0))
PHASE = {"name": "one", "size": 64, "scale": 2, "samples_per_epoch": 5, "batch": 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Five photos, one of exactly the crop's size; the last two are not in the cache."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (height, width) in enumerate([(64, 64), (70, 200), (120, 65), (90, 90), (100, 64)]):
        crop(height, width, top=20 * number, left=30 * number).save(folder / f"{number}.png")
    found, _ = find_all([folder], smallest=64)
    return Store(found, folder / "cache", sum(photo.bytes for photo in found[:3]))


def digest(pair: tuple[Tensor, Tensor]) -> str:
    return hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in pair)).hexdigest()


def phase(**values: object) -> Phase:
    return parse({"phases": [PHASE | values]}, "test").phases[0]


def uncached(folder: Path, count: int) -> Store:
    for number in range(count):
        crop(64, 64, left=30 * number).save(folder / f"{number}.png")
    return Store(find_all([folder], smallest=64)[0], folder, 0)


# ---- what they look like ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [32, 64])
def test_shapes_and_types(store: Store, size: int, scale: int) -> None:
    small, target = Pairs(store, replace(RECIPE, size=size, scale=scale))[0, 0, 0]
    assert (small.dtype, target.dtype) == (torch.uint8, torch.uint8)
    assert tuple(target.shape) == (3, size, size)
    assert tuple(small.shape) == (3, size // scale, size // scale)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_without_degradations_the_input_is_the_reduced_target(store: Store, scale: int) -> None:
    pairs = Pairs(store, replace(PLAIN, scale=scale))
    for number in range(8):
        small, target = (part.permute(1, 2, 0).numpy() for part in pairs[0, 0, number])
        meant = bicubic_downsample(np.ascontiguousarray(target, np.float32) / 255, scale) * 255
        assert np.abs(small - meant).max() <= 1


def test_a_plain_crop_is_a_piece_of_a_photo(store: Store) -> None:
    pairs = Pairs(store, replace(PLAIN, flip=False))
    whole = [store.read(index) for index in range(len(store))]
    for number in range(8):
        target = pairs[0, 0, number][1].permute(1, 2, 0).numpy()
        assert any(
            np.array_equal(photo[top : top + 64, left : left + 64], target)
            for photo in whole
            for top in range(photo.shape[0] - 63)
            for left in range(photo.shape[1] - 63)
        )


def test_crops_lie_in_all_eight_ways(store: Store) -> None:
    only = Store([find_all([store._photos[0].path.parent], smallest=64)[0][0]], Path("unused"), 0)
    photo = decode(store._photos[0].path)
    ways = {np.rot90(way, turns).tobytes() for way in (photo, photo[:, ::-1]) for turns in range(4)}
    seen = {Pairs(only, PLAIN)[0, 0, n][1].permute(1, 2, 0).contiguous().numpy().tobytes() for n in range(80)}
    assert seen == ways


def test_a_larger_piece_is_reduced_no_further_than_the_photo_goes(store: Store) -> None:
    pairs = Pairs(store, replace(PLAIN, reduce=(8.0, 8.0), flip=False))
    for number in range(12):
        assert tuple(pairs[0, 0, number][1].shape) == (3, 64, 64)


# ---- the same bytes ---------------------------------------------------------------------------------------


def test_a_key_gives_the_same_bytes_in_any_order_and_others_differ(store: Store) -> None:
    pairs = Pairs(store, RECIPE)
    keys = [(p, e, n) for p in range(2) for e in range(2) for n in range(4)]
    forth = [digest(pairs[key]) for key in keys]
    back = [digest(Pairs(store, RECIPE)[key]) for key in reversed(keys)]
    assert forth == back[::-1]
    assert len(set(forth)) == len(keys)


def test_another_seed_gives_other_bytes(store: Store) -> None:
    assert digest(Pairs(store, RECIPE)[0, 0, 0]) != digest(Pairs(store, replace(RECIPE, seed=2))[0, 0, 0])


def test_the_global_generators_count_for_nothing(store: Store) -> None:
    torch.manual_seed(1)
    before = digest(Pairs(store, RECIPE)[0, 0, 0])
    torch.manual_seed(2)
    np.random.seed(5)
    assert digest(Pairs(store, RECIPE)[0, 0, 0]) == before


def test_the_number_of_workers_counts_for_nothing(store: Store) -> None:
    def batches(workers: int) -> list[str]:
        config = parse({"phases": [PHASE], "data": {"workers": workers, "valid_crops": 3}}, "test")
        both, steps = loaders(config, 0, Stores(store, store), torch.device("cpu"))
        steps.begin(1)
        return [digest((small, target)) for small, target in both.train]

    alone = batches(0)
    assert len(set(alone)) == 3
    assert batches(2) == alone


# ---- the order --------------------------------------------------------------------------------------------


@given(
    samples=st.integers(1, 60),
    batch=st.integers(1, 9),
    world=st.integers(1, 3),
    epoch=st.integers(0, 5),
    share=st.floats(0, 1),
)
def test_an_epoch_has_each_key_once(samples: int, batch: int, world: int, epoch: int, share: float) -> None:
    one = phase(samples_per_epoch=samples, batch=batch)
    seen: list[data.Key] = []
    for rank in range(world):
        steps = Steps(3, one, rank=rank, world=world)
        steps.begin(epoch)
        whole = list(steps)
        assert len(steps) == len(whole) == one.steps_per_epoch(world)
        assert all(len(keys) == batch for keys in whole)
        first = int(share * len(whole))
        steps.begin(epoch, first)
        assert list(steps) == whole[first:]
        assert len(steps) == len(whole)
        seen += [key for keys in whole for key in keys]
    assert sorted(seen) == [
        (3, epoch, number) for number in range(world * one.steps_per_epoch(world) * batch)
    ]
    assert samples <= len(seen) < samples + world * batch


def test_every_epoch_has_keys_of_its_own() -> None:
    steps = Steps(0, phase())
    first = [key for keys in steps for key in keys]
    steps.begin(1)
    assert not set(first) & {key for keys in steps for key in keys}


def test_validation_is_the_same_in_every_epoch(store: Store) -> None:
    config = parse({"phases": [PHASE], "data": {"workers": 0, "valid_crops": 5}}, "test")
    both, steps = loaders(config, 0, Stores(store, store), torch.device("cpu"))
    before = [digest((small, target)) for small, target in both.valid]
    steps.begin(4)
    assert [digest((small, target)) for small, target in both.valid] == before
    assert list(both.valid.batch_sampler) == [[(0,), (1,)], [(2,), (3,)], [(4,)]]
    assert isinstance(both.valid, DataLoader)


# ---- crops for sheets -------------------------------------------------------------------------------------


def test_crops_for_sheets_are_clean_and_the_same(store: Store) -> None:
    crops = sample_crops(store, 32, range(4), seed=3)
    again = sample_crops(store, 32, (2,), seed=3)
    assert np.array_equal(crops[2], again[0])
    assert {(one.shape, one.dtype) for one in crops} == {((32, 32, 3), np.dtype(np.float32))}
    assert 0 <= min(one.min() for one in crops) < max(one.max() for one in crops) <= 1


def test_crops_come_from_all_photos(store: Store) -> None:
    class Noted(Store):
        def read(self, index: int) -> np.ndarray:
            seen[index] += 1
            return super().read(index)

    seen, noted = Counter[int](), Noted.__new__(Noted)
    noted.__dict__.update(store.__dict__)
    pairs = Pairs(noted, PLAIN)
    for number in range(100):
        pairs[0, 0, number]
    assert set(seen) == set(range(5))
    assert max(seen.values()) < 40, "as often from each"


def test_validation_is_on_the_photos_for_validation_and_training_on_the_others(store: Store) -> None:
    config = parse({"phases": [PHASE], "data": {"workers": 0, "valid_crops": 4}}, "test")
    one, four = (store.of_at_least(90), store)
    assert (len(one), len(four)) == (1, 5)
    both, _ = loaders(config, 0, Stores(train=four, valid=one), torch.device("cpu"))
    made_by = recipe(config, config.phases[0])
    for loader, expected in ((both.valid, Pairs(one, made_by)), (both.train, Pairs(four, made_by))):
        for keys, (small, target) in zip(loader.batch_sampler, loader, strict=True):
            for index, key in enumerate(keys):
                assert digest((small[index], target[index])) == digest(expected[key])


# ---- photos that go away ----------------------------------------------------------------------------------


def test_in_the_place_of_a_photo_that_is_gone_another_is_taken_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = uncached(tmp_path, 2)
    keys = [(0, 0, number) for number in range(20)]
    before = [digest(Pairs(store, PLAIN)[key]) for key in keys]
    assert caplog.messages == []
    (tmp_path / "1.png").unlink()
    after, again = (
        [digest(pairs[key]) for key in keys] for pairs in (Pairs(store, PLAIN), Pairs(store, PLAIN))
    )
    assert after == again
    of_the_other = sum(a == b for a, b in zip(before, after, strict=True))
    assert 3 <= of_the_other <= 17
    assert len(caplog.messages) == 2  # of the two that made pairs
    assert caplog.messages[0].startswith(f"{tmp_path}/1.png could be read before and no longer: ")
    assert caplog.messages[0].endswith("; crops of other photos are taken instead")


@pytest.mark.parametrize("workers", [0, 1])
def test_where_all_photos_are_gone_one_is_named(tmp_path: Path, workers: int) -> None:
    store = uncached(tmp_path, 1)
    (tmp_path / "0.png").unlink()
    context = "spawn" if workers else None
    keys = [[(0, 0, 0)]]
    loader = DataLoader(
        Pairs(store, PLAIN), batch_sampler=keys, num_workers=workers, multiprocessing_context=context
    )
    with pytest.raises(data.PhotosGone) as raised:
        next(iter(loader))
    assert str(raised.value) == (
        f"{tmp_path}/0.png could be read before and no longer: [Errno 2] No such file or directory:"
        f" '{tmp_path}/0.png'; 10 photos in a row cannot be read: see that they are there again, and run the"
        " same command again to go on from the last checkpoint"
    )
