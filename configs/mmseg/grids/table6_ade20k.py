"""The paper's Table 6 on ADE20K, each run on one GPU; for tools/grid.py.

One GPU takes the 8 images that the configs have on 4, and two steps make the batch of
16 as there. For less memory: ``train_dataloader.batch_size=4`` with
``optim_wrapper.accumulative_counts=4``, and everything that counts iterations doubled.
"""

rows = [
    dict(
        name=name,
        title=title,
        config=f'../upernet_{name}.py',
        options=['train_dataloader.batch_size=8'],
    )
    for name, title in (
        ('dino', 'DINO'),
        ('beit', 'BEiT'),
        ('beit_aib', 'BEiT-aib'),
        ('beit_aib_qt', 'BEiT-aib-qt'),
    )
]
