"""A look at validation photos after each epoch: input, nearest, bilinear, prediction, target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback
from PIL import Image
from torch import Tensor

from trainer.callbacks import ending_where_unwritable
from trainer.evaluation import sheets
from trainer.evaluation.metrics import luma, psnr, ssim
from trainer.evaluation.sheets import RGB, Panel, Sheet

_ENLARGERS = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}


class Panels(Callback):
    """Writes ``NAME-EPOCH.png`` with the averaged weights, from the first crops of the validation."""

    order = 52
    """While the averaged weights are in the network."""
    run_train = False

    def __init__(self, folder: Path, name: str, count: int) -> None:
        self._folder, self._name, self._count = folder, name, count

    def before_validate(self) -> None:
        self._rows: list[Sheet] = []

    def after_batch(self) -> None:
        batch = zip(self.xb[0], self.pred[max(self.pred)], self.yb[0], strict=True)
        for given, prediction, target in list(batch)[: self._count - len(self._rows)]:
            self._rows.append(_row(f"crop {len(self._rows) + 1}", given, prediction, target))

    def after_validate(self) -> None:
        if self._rows:
            with ending_where_unwritable(self.learn, self._folder):
                self._folder.mkdir(exist_ok=True)
                sheets.stacked(self._rows).save(self._folder / f"{self._name}-{self.epoch + 1:03}.png")


def _row(title: str, given: Tensor, prediction: Tensor, target: Tensor) -> Sheet:
    """The five pictures, the input at its own size; PSNR and SSIM are those of luma, over all pixels."""
    meant, small = _rgb(target), Image.fromarray(_rgb(given))
    size = (meant.shape[1], meant.shape[0])
    made = {name: np.asarray(small.resize(size, filter_)) for name, filter_ in _ENLARGERS.items()}
    made["prediction"] = _rgb((prediction.clamp(0, 1) * 255).round().to(torch.uint8))
    panels = [Panel(name, _scores(picture, meant), picture) for name, picture in made.items()]
    return Sheet(title, (Panel("input", "", np.asarray(small)), *panels, Panel("target", "", meant)))


def _scores(picture: RGB, meant: RGB) -> str:
    a, b = luma(picture / 255), luma(meant / 255)
    return f"{psnr(a, b, 0):.2f} dB, {ssim(a, b, 0):.4f}"


def _rgb(pixels: Tensor) -> RGB:
    return pixels.detach().cpu().permute(1, 2, 0).contiguous().numpy()
