"""Feature extractors of the recognition experiments."""

#: The host's initialisation of a ResNet: normal, fan out.
KAIMING = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', layer='BatchNorm2d', val=1),
]
