"""DigitScenes' test images on other photographs: where other images are asked for."""

_base_ = 'digit_scenes.py'

test_dataloader = dict(
    dataset=dict(data_root='data/digitscenes/shifted', split='photographs')
)
