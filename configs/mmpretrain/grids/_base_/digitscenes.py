"""What the rows' names in braces stand for: an eighth of the width, DigitScenes."""

fill = dict(
    vgg='vgg16-narrow',
    wrn='wrn16-narrow',
    data='digitscenes',
    latent_dim=64,
    double_channels=64,
)
