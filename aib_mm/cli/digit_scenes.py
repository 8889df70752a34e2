"""The program behind ``tools/digit_scenes.py``."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aib_mm.digitscenes import (
    DEFAULT_PARTS,
    PARTS,
    DigitScenesSpec,
    SetError,
    SourceError,
    generate,
    load_meta,
    verify,
)

_DEFAULTS = DigitScenesSpec()
_NUMBERS = {
    'seed': 'of everything random',
    'size': 'side of an image, pixels',
    'train': 'images for training',
    'test': 'images for testing',
    'scene_size': 'side of a scene',
    'scenes_train': 'scenes',
    'scenes_val': 'scenes',
    'shifted': 'of each shifted split',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Make or verify a DigitScenes set; 0 on success."""
    args = _parser().parse_args(argv)
    try:
        _verify(args) if args.verify else _generate(args)
        return 0
    except (SetError, SourceError, ValueError, FileNotFoundError) as error:
        message = str(error)
    except OSError as error:
        message = f'cannot write below {args.out} ({error}): give another folder '
        message += 'with --out'
    print(f'error: {message}', file=sys.stderr)
    return 1


def _generate(args: argparse.Namespace) -> None:
    spec = replace(_DEFAULTS, **{name: getattr(args, name) for name in _NUMBERS})
    start = time.perf_counter()
    made = generate(args.out, spec, args.parts, args.workers, args.force)
    for part, new in made.items():
        folder = args.out / part
        meta = load_meta(folder)
        counts = ', '.join(f'{n} {split}' for split, n in meta['counts'].items())
        state = 'made' if new else 'already there'
        print(f'{folder}: {counts} ({state}), sha256 {meta["sha256"]}')
    if any(made.values()):
        print(f'{time.perf_counter() - start:.1f} s')


def _verify(args: argparse.Namespace) -> None:
    for part in args.parts:
        meta = verify(args.out / part)
        print(f'{args.out / part}: {meta["files"]} files, sha256 {meta["sha256"]}: ok')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Make the DigitScenes set: handwritten digits on photographs, with '
        'masks. Nothing is downloaded.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('data/digitscenes'), help='folder of the set')
    add('--parts', nargs='+', choices=[*PARTS], default=[*DEFAULT_PARTS], help='what')
    for name, meaning in _NUMBERS.items():
        option = f'--{name.replace("_", "-")}'
        add(option, type=int, default=getattr(_DEFAULTS, name), help=meaning)
    add('--workers', type=int, default=None, help='processes (None: the usable cores)')
    add('--force', action='store_true', help='replace a set that is there')
    add('--verify', action='store_true', help='only check what is there')
    return parser
