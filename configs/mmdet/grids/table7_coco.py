"""The paper's Table 7 on COCO, each run on one GPU; for tools/grid.py.

An iteration is one of the four steps of a batch of 16; the warm-up is as long.
"""

rows = [
    dict(
        name=f'faster_rcnn{part}',
        title=f'Faster R-CNN{title}',
        config=f'../faster_rcnn_r50{part}.py',
        options=['optim_wrapper.accumulative_counts=4', 'param_scheduler.0.end=2000'],
    )
    for part, title in (('', ''), ('_aib', '-aib'), ('_aib_qt', '-aib-qt'))
]
