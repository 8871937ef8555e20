"""What a run has come to by its last checkpoint, with the card that its weights would have."""

from __future__ import annotations

from pathlib import Path

from srbatch.card import Card
from srbatch.errors import UsageError, WeightsError
from srbatch.network import SuperResolutionNet
from trainer import checkpoint
from trainer.checkpoint import FILE, State, averaged, begun_phases
from trainer.config import Config, begun
from trainer.exporting import release
from trainer.schedule import up_to_scale


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint that a path means: itself, or that of the run in a folder; None where it means none."""
    if path.is_dir():
        return path / FILE
    return path if path.suffix == Path(FILE).suffix else None


def load(path: Path) -> tuple[SuperResolutionNet, Card]:
    """The averaged weights of a checkpoint, in eval mode, and a card that says how far the training was.

    Raises:
        WeightsError: there is no checkpoint, or none that can be read.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such checkpoint")
    try:
        state = checkpoint.read(path)
        count = begun_phases(state)
        config = begun(state.config, count, state.release)
        network = SuperResolutionNet(config.network.with_stages(checkpoint.stages(state)))
        network.load_state_dict(averaged(state))
    except UsageError as error:
        why = error.__cause__ or "it is of another version of srbatch"
        raise WeightsError(f"{path} cannot be read: {why}") from error
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} holds no run of this trainer: {error}") from error
    return _described(state, config, network)


def _described(state: State, config: Config, network: SuperResolutionNet) -> tuple[SuperResolutionNet, Card]:
    scales = release.served_scales(config, state.begun.get("scales", ()))
    network = up_to_scale(network, scales[-1]).eval().requires_grad_(False)
    about = config.release
    card = Card(
        name=about.name,
        version=about.version,
        description=about.description,
        licence=about.licence,
        config=network.config,
        scales=scales,
        degradations=release.learnt(config, state),
        training=release.record(
            config,
            state,
            photos_sha256=state.config["photos"],
            halo="not measured: taken from a checkpoint",
            checkpoint=_place(state, config),
        ),
        # Those of an epoch's end are of other weights as soon as the next has begun.
        metrics=release.metrics(state) if not state.step else {},
        halo_px=release.UNMEASURED[0],
        ramp_px=release.UNMEASURED[1],
    )
    return network, card


def _place(state: State, config: Config) -> str:
    """How far the training was, for people."""
    name = config.phases[-1].name
    of = f"{len(config.phases)} of {len(state.config['phases'])}"
    if state.optimiser is None:
        return f"at the end of phase {name}, {of}"
    epochs = config.phases[-1].epochs
    return f"in phase {name}, {of}: {state.epoch} of {epochs} epochs and {state.step} steps of the next done"
