"""Both parts of STL-10 for a model of CIFAR-10 (paper, 4.2.3).

The nine classes that both sets have, with CIFAR-10's labels; monkeys are left out. For
``tools/cross_domain.py``: what is said here replaces what the config says of its test
data, so that the model's own normalisation stays.
"""

# Three times smaller: Pillow averages, as torchvision does; cv2's bilinear would take
# one pixel of nine.
pipeline = [
    dict(type='Resize', scale=(32, 32), backend='pillow', interpolation='bilinear'),
    dict(type='PackInputs'),
]
dataset = dict(
    _delete_=True,
    type='STL10',
    data_root='data/stl10',
    classes_of='cifar10',
    pipeline=pipeline,
)

domains = {
    'STL10-train': dict(dataset=dict(split='train', **dataset)),
    'STL10-test': dict(dataset=dict(split='test', **dataset)),
}
