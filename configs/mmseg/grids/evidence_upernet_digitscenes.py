"""What the map's price does to a segmentor, 24 epochs each: docs/selectivity.md.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

rows = [
    dict(
        name=name,
        title=title,
        config=f'../upernet_beit-narrow{part}_digitscenes.py',
        options=['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'],
    )
    for name, title, part in (
        ('vanilla', 'UperNet-BEiT', ''),
        ('aib', 'UperNet-BEiT-aib', '_aib'),
        ('aib_priced', 'UperNet-BEiT-aib, priced', '_aib_priced'),
    )
]
