"""The paper's Table 6 on DigitScenes, narrow and without DINO; for tools/grid.py."""

rows = [
    dict(
        name=f'beit{part}',
        title=f'BEiT{title}',
        config=f'../upernet_beit-narrow{part}_digitscenes.py',
    )
    for part, title in (('', ''), ('_aib', '-aib'), ('_aib_qt', '-aib-qt'))
]
