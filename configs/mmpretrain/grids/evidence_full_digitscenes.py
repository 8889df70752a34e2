"""As evidence_digitscenes.py at full size, for a GPU: docs/selectivity.md."""

rows = [
    dict(
        name=name,
        title=title,
        config=f'../{config}_digitscenes.py',
        options=['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'],
    )
    for name, title, config in (
        ('vanilla', 'VGG16', 'vgg16'),
        ('aib', 'VGG16-aib', 'vgg16_aib'),
        ('aib_priced', 'VGG16-aib, priced', 'vgg16_aib_priced'),
    )
]
