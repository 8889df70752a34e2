"""Random images with objects, as a data loader of mmdet hands them over."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from torch import Tensor


def random_batch(
    images: int,
    size: tuple[int, int],
    num_classes: int,
    objects: int = 2,
    masks: bool = True,
    semantic: bool = False,
    channels: int = 3,
) -> dict[str, list]:
    """A batch to try or time a detector with, the same at every call.

    Args:
        images: B.
        size: height and width, pixels.
        num_classes: number of classes; labels are below it.
        objects: objects per image, with boxes.
        channels: channels of the images.
        masks: whether the objects have masks; some detectors of boxes take other ways
            where there are any.
        semantic: whether the images also have a map of classes, all of the first one.
    """
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index in range(images):
        pixels = torch.randint(0, 256, (channels, *size), generator=generator)
        inputs.append(pixels.to(torch.uint8))
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=size,
                ori_shape=size,
                scale_factor=(1.0, 1.0),
                border=np.array([0, size[0], 0, size[1]]),  # of CenterNet's pipeline
            )
        )
        boxes = random_boxes(objects, size, generator)
        labels = torch.randint(0, num_classes, (objects,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        if masks:
            sample.gt_instances.masks = _masks(boxes, size)
        if semantic:
            classes = torch.zeros(1, *size, dtype=torch.long)
            sample.gt_sem_seg = PixelData(sem_seg=classes)
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def random_boxes(
    count: int, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Boxes inside the image, each side a sixth to a half of it, ``(count, 4)``."""
    extent = torch.tensor([size[1], size[0]], dtype=torch.float)
    sides = extent * (1 + 2 * torch.rand(count, 2, generator=generator)) / 6
    corners = (extent - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + sides], dim=1)


def _masks(boxes: Tensor, size: tuple[int, int]) -> BitmapMasks:
    maps = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for index, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        maps[index, y0:y1, x0:x1] = 1
    return BitmapMasks(maps.numpy(), *size)
