"""DigitScenes' counterpart of the paper's cross-domain test (4.2.3).

The test images with other photographs, or with thicker or thinner strokes:
``python tools/digit_scenes.py --parts shifted`` makes them.
"""

data_root = 'data/digitscenes/shifted'

domains = {
    'photographs': dict(dataset=dict(data_root=data_root, split='photographs')),
    'thick': dict(dataset=dict(data_root=data_root, split='thick')),
    'thin': dict(dataset=dict(data_root=data_root, split='thin')),
}
