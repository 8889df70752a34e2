"""What the map's price does to a detector, 16 epochs each: docs/selectivity.md.

For tools/grid.py, which tests by itself: the trainings do not validate.
"""

rows = [
    dict(
        name=name,
        title=title,
        config=f'../faster_rcnn_r18-narrow{part}_digitscenes.py',
        options=['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'],
    )
    for name, title, part in (
        ('vanilla', 'Faster R-CNN', ''),
        ('aib', 'Faster R-CNN-aib', '_aib'),
        ('aib_priced', 'Faster R-CNN-aib, priced', '_aib_priced'),
    )
]
