"""Ways to damage the file of an image or a mask of ``damaged_sets``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 32

Damage = Callable[[Path], None]


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to('nowhere')


def become(path: Path, mode: str, kind: str, **options: Any) -> None:
    """The same image with other bands, in another format."""
    with Image.open(path) as image:
        image.convert('L' if mode in ('I;16', 'F') else mode).load()
        array = np.asarray(image.convert('L'))
        converted = image.convert('RGBA' if mode == 'RGBA' else 'RGB')
    if mode == 'I;16':
        converted = Image.fromarray(array.astype(np.uint16) * 257)
    elif mode == 'F':
        converted = Image.fromarray(array.astype(np.float32) / 255)
    else:
        converted = converted.convert(mode)
    converted.save(path, kind, **options)


def turn(path: Path, orientation: int) -> None:
    """Only a header says that the image is turned or mirrored."""
    with Image.open(path) as image:
        pixels = image.copy()
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels.save(path, 'PNG' if path.suffix == '.png' else 'JPEG', exif=exif)


def resize(path: Path, size: tuple[int, int]) -> None:
    with Image.open(path) as image:
        smaller = image.resize(size, Image.Resampling.NEAREST)
    smaller.save(path)


def write_mask(path: Path, values: Any, kind: str = 'PNG') -> None:
    Image.fromarray(np.asarray(values)).save(path, kind)


def paint(path: Path) -> None:
    """The same classes as numbers of a palette's colours."""
    with Image.open(path) as mask:
        painted = Image.frombytes('P', mask.size, mask.tobytes())
    painted.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    painted.save(path)


def scramble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(len(content))
    content[:64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    path.write_bytes(content)


#: Damage of any image or mask file.
BROKEN: dict[str, Damage] = {
    'missing': Path.unlink,
    'empty': lambda path: path.write_bytes(b'') and None,
    'cut at 10 %': partial(cut, share=0.1),
    'cut in half': partial(cut, share=0.5),
    'cut at 95 %': partial(cut, share=0.95),
    'a web page': lambda path: path.write_text('<html>404</html>') and None,
    'zeros': lambda path: path.write_bytes(bytes(500)) and None,
    'noise at its start': scramble,
    'a folder': become_folder,
    'a broken link': become_link,
    'renamed': lambda path: path.rename(path.with_name('other.tmp')) and None,
    'a Git LFS pointer': lambda path: (
        path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
        and None
    ),
}
#: Those after which a set that lists a folder does not have the file.
GONE = ('missing', 'renamed', 'a folder', 'a broken link')
#: Images that every host reads.
OTHER_IMAGES: dict[str, Damage] = {
    'one band': partial(become, mode='L', kind='JPEG'),
    'four inks': partial(become, mode='CMYK', kind='JPEG'),
    'a PNG inside': partial(become, mode='RGB', kind='PNG'),
    'one bit': partial(become, mode='1', kind='PNG'),
    'a palette': partial(become, mode='P', kind='PNG'),
    'transparent': partial(become, mode='RGBA', kind='PNG'),
    'grey and transparent': partial(become, mode='LA', kind='PNG'),
    '16 bits': partial(become, mode='I;16', kind='PNG'),
    'a bitmap inside': partial(become, mode='RGB', kind='BMP'),
    'WebP inside': partial(become, mode='RGB', kind='WEBP'),
    'a TIFF inside': partial(become, mode='RGB', kind='TIFF'),
    'mirrored by EXIF': partial(turn, orientation=2),
    'half a turn by EXIF': partial(turn, orientation=3),
}
#: A quarter of a turn by the header alone: boxes and masks are for another side up.
TURNED: dict[str, Damage] = {
    f'EXIF rotation {number}': partial(turn, orientation=number)
    for number in (5, 6, 7, 8)
}
_ROWS = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
_COLOURS = np.stack([_ROWS, _ROWS % 3, _ROWS % 7], axis=-1)
#: Masks, and the words that name them; none where they are as good.
MASKS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    'colours': (
        partial(write_mask, values=_COLOURS),
        ('3 values a pixel', '(0, 0, 0)'),
    ),
    'colours with transparency': (
        partial(write_mask, values=np.dstack([_COLOURS, _ROWS])),
        ('4 values a pixel',),
    ),
    'grey with transparency': (
        partial(become, mode='LA', kind='PNG'),
        ('2 values a pixel',),
    ),
    'a palette of its own': (paint, ()),
    'a JPEG': (
        partial(write_mask, values=_ROWS % 3 * 100, kind='JPEG'),
        ('JPEG', 'values 0,'),
    ),
    'a JPEG in colour': (
        partial(write_mask, values=_COLOURS, kind='JPEG'),
        ('JPEG', 'values ('),
    ),
    'values of 16 bits': (
        partial(write_mask, values=_ROWS.astype(np.uint16) * 256),
        ('values 0, 256, 512', 'lowest 8 bits'),
    ),
    'classes in 16 bits': (
        partial(write_mask, values=(_ROWS % 3).astype(np.uint16)),
        (),
    ),
    'values of 32 bits': (
        partial(write_mask, values=_ROWS.astype(np.int32) * 1000, kind='TIFF'),
        ('values 0, ', 'lowest 8 bits'),
    ),
    'one bit': (partial(write_mask, values=_ROWS % 2 == 1), ()),
    'one class too many': (
        partial(write_mask, values=_ROWS % 4),
        ('values 0, 1, 2, 3', 'the 3 classes are 0 to 2'),
    ),
    'black and white': (
        partial(write_mask, values=_ROWS % 2 * np.uint8(200)),
        ('values 0, 200',),
    ),
    'nothing but ignored': (partial(write_mask, values=_ROWS * 0 + 255), ()),
    'of half the size': (partial(resize, size=(WIDTH // 2, HEIGHT // 2)), ('20x16',)),
    'of another side up': (partial(resize, size=(HEIGHT, WIDTH)), ('32x40',)),
}
