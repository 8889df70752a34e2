"""Masks and bands for test images that have none."""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from unchecked_cifar import UncheckedCIFAR10


class SquareMask(BaseTransform):
    """``gt_seg_map`` ``(H, W)``: 8×8 pixels; nothing where the image has class 9."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        mask = np.zeros(results['img'].shape[:2], np.uint8)
        if results['gt_label'] != 9:
            row, column = (int(x) % 24 for x in results['img'][0, 0, :2])
            mask[row : row + 8, column : column + 8] = 1
        return dict(results, gt_seg_map=mask)


class AddBand(BaseTransform):
    """A fourth band beside the three colours: their mean."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        band = results['img'].mean(axis=2, keepdims=True).astype(np.uint8)
        return dict(results, img=np.concatenate([results['img'], band], axis=2))


class Nines(UncheckedCIFAR10):
    """CIFAR-10 files, all of class 9."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(one, gt_label=9) for one in super().load_data_list()]
