"""The last layer before the prediction, as a distribution (paper, 4.2.4)."""

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from aib_mm.encoders import GaussianLayer
from aib_mm.errors import check_count


class GaussianConv(GaussianLayer):
    """``z ~ N(mean, std²)`` at every pixel, from a host's ``ConvModule``.

    The host's layer up to its norm is the mean; its activation follows the draw, as
    ``activate``. A conv beside it is the std.

    Args:
        layer: the host's ``ConvModule``; this module takes it over.
        std_kernel_size: kernel size of the std's conv, odd. The paper gives none; 1 is
            cheap, as this layer is where most of UPerHead's operations are.
        std_shift: shift of ``gaussian.softplus_std``, see ``GaussianLayer``.
        std_groups: groups of that conv. A UPerHead's input is four levels side by side:
            with 4 groups each quarter of the latent has its std from one of them, for a
            quarter of the operations.

    Raises:
        ValueError: a layer that is no ``ConvModule``, or whose activation is not last;
            an impossible kernel size or number of groups.
    """

    mean: ConvModule

    def __init__(
        self,
        layer: nn.Module,
        std_kernel_size: int = 1,
        std_shift: float = 5.0,
        std_groups: int = 1,
    ) -> None:
        check_count('std_kernel_size', std_kernel_size, 1)
        check_count('std_groups', std_groups, 1)
        if std_kernel_size % 2 == 0:
            raise ValueError(f'std_kernel_size must be odd, got {std_kernel_size}')
        if not isinstance(layer, ConvModule) or layer.order[-1] != 'act':
            raise ValueError(
                'the last layer before conv_seg must be a ConvModule that ends with '
                f'its activation, got {type(layer).__name__}: set last_layer to the '
                'name of such a one'
            )
        if layer.in_channels % std_groups or layer.out_channels % std_groups:
            raise ValueError(
                f'std_groups={std_groups} must divide the {layer.in_channels} channels '
                f'before the latent and its {layer.out_channels}'
            )
        std = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            std_kernel_size,
            padding=std_kernel_size // 2,
            groups=std_groups,
        )
        super().__init__(layer, std, std_shift)
        self._activates = layer.with_activation
        layer.with_activation = False
        if getattr(getattr(layer, 'activate', None), 'inplace', False):
            layer.activate.inplace = False  # the losses judge the same draw

    def activate(self, z: Tensor) -> Tensor:
        """The host's activation of a draw, any shape."""
        return self.mean.activate(z) if self._activates else z
