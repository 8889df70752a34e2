"""What the rows' names in braces stand for: full size, CIFAR-10."""

fill = dict(
    vgg='vgg16',
    wrn='wrn28-10',
    data='cifar10',
    latent_dim=256,
    # Of the encoder where the modulation or the noise concatenates.
    double_channels=512,
)
