"""Random images with labels, as a data loader of mmpretrain hands them over."""

import torch
from mmpretrain.structures import DataSample


def random_batch(
    images: int, size: tuple[int, int], num_classes: int, channels: int = 3
) -> dict[str, list]:
    """A batch to try or time a classifier with, the same at every call.

    Args:
        images: B.
        size: height and width, pixels.
        num_classes: number of classes; labels are below it.
        channels: channels of the images.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, channels, *size), generator=generator)
    labels = torch.randint(0, num_classes, (images,), generator=generator)
    samples = [DataSample().set_gt_label(label) for label in labels.tolist()]
    return dict(inputs=list(pixels.to(torch.uint8)), data_samples=samples)
