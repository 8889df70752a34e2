"""Parts for mmdet; the only folder that imports it."""

from aib_mm.detection.gaussian_bbox_head import GaussianBBoxHead
from aib_mm.detection.gaussian_roi_head import GaussianCascadeRoIHead, GaussianRoIHead

__all__ = ['GaussianBBoxHead', 'GaussianCascadeRoIHead', 'GaussianRoIHead']
