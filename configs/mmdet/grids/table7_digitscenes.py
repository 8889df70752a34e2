"""The paper's Table 7 on DigitScenes, narrow; for tools/grid.py."""

rows = [
    dict(
        name=f'faster_rcnn{part}',
        title=f'Faster R-CNN{title}',
        config=f'../faster_rcnn_r18-narrow{part}_digitscenes.py',
    )
    for part, title in (('', ''), ('_aib', '-aib'), ('_aib_qt', '-aib-qt'))
]
