"""Random images with label maps, as a data loader of mmseg hands them over."""

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample


def random_batch(
    images: int, size: tuple[int, int], num_classes: int, channels: int = 3
) -> dict[str, list]:
    """A batch to try or time a segmentor with, the same at every call.

    Args:
        images: B.
        size: height and width, pixels.
        num_classes: number of classes; labels are below it.
        channels: channels of the images.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, channels, *size), generator=generator)
    labels = torch.randint(0, num_classes, (images, 1, *size), generator=generator)
    samples = []
    for label_map in labels:
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
        sample.gt_sem_seg = PixelData(data=label_map)
        sample.gt_edge_map = PixelData(data=label_map % 2)  # PIDNet learns edges
        samples.append(sample)
    return dict(inputs=list(pixels.to(torch.uint8)), data_samples=samples)
