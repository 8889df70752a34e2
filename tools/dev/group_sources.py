"""Lets mmcv's ops compile in four pieces instead of 75.

    python tools/dev/group_sources.py FOLDER  # an unpacked sdist of mmcv

Nearly all the time of a source file goes into torch's headers: 23 s of CPU each. Here
every ``x.cpp`` becomes ``x.cpp.inc``, and a few new ``.cpp`` files include them. The
code that is compiled stays mmcv's own.
"""

import sys
from pathlib import Path

OPS = 'mmcv/ops/csrc/pytorch'
#: Files of ``cpu/`` whose templates have the names of others': groups of their own.
APART = [['roi_align.cpp'], ['roi_align_rotated.cpp', 'rotated_feature_align.cpp']]
#: It defines ``min`` and ``max`` as macros, which no header after it would survive.
LAST = 'psamask.cpp'


def group(folder: Path, apart: list[list[str]]) -> None:
    """Replace the C++ sources of a folder by files that include them."""
    names = sorted(path.name for path in folder.glob('*.cpp'))
    names.sort(key=lambda name: name == LAST)
    kept = {name for files in apart for name in files}
    groups = [*apart, [name for name in names if name not in kept]]
    for name in names:
        (folder / name).rename(folder / f'{name}.inc')
    for i, files in enumerate(groups):
        lines = [f'#include "{name}.inc"\n' for name in files]
        (folder / f'group_{i}.cpp').write_text(''.join(lines))


def main(folder: Path) -> None:
    """Group the sources of an unpacked sdist."""
    ops = folder / OPS
    if not (ops / 'pybind.cpp').is_file():
        sys.exit(f'{ops} holds no pybind.cpp: {folder} is not an unpacked mmcv')
    group(ops / 'cpu', APART)
    group(ops, [])


if __name__ == '__main__':
    main(Path(sys.argv[1]))
