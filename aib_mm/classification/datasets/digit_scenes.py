"""The classification and shifted parts of DigitScenes as an mmpretrain dataset."""

from pathlib import Path
from typing import Any, ClassVar

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS as MMPRETRAIN_DATASETS

from aib_mm.digitscenes import CLASSES, PARTS, VERSION, how_to_make, load_meta
from aib_mm.errors import choose
from aib_mm.registry import DATASETS

_PART_OF = {
    split: part for part in ('classification', 'shifted') for split in PARTS[part]
}


@DATASETS.register_module()
@MMPRETRAIN_DATASETS.register_module()
class DigitScenes(CustomDataset):
    """Images of one digit each, with the path of the digit's mask.

    Every sample has ``img_path``, ``gt_label`` (0 to 9) and ``seg_map_path``, a PNG
    non-zero on the digit; ``LoadMaskAnnotations`` loads it as ``gt_seg_map``.

    Args:
        data_root: folder of the part, which holds ``meta.json``.
        split: ``train`` or ``test`` of the classification part; ``photographs``,
            ``thick`` or ``thin`` of the shifted part.
        kwargs: arguments of mmpretrain's ``BaseDataset``.

    Raises:
        FileNotFoundError: no set is there, or images are missing.
        ValueError: the set is of another version or part.
    """

    METAINFO: ClassVar[dict] = {'classes': CLASSES}

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        choose('split', split, _PART_OF)
        self.split = split
        super().__init__(data_root=data_root, data_prefix=split, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Samples in the order of their class, then of their index."""
        root = Path(self.data_root)
        meta = load_meta(root)
        part = _PART_OF[self.split]
        remedy = f'{how_to_make(root.with_name(part))} --force'
        for key, expected in (('version', VERSION), ('part', part)):
            if meta.get(key) != expected:
                raise ValueError(
                    f'{root} has {key} {meta.get(key)!r}, but this dataset reads '
                    f'{expected!r}; {remedy}'
                )
        samples = super().load_data_list()
        for sample in samples:
            path = Path(sample['img_path'])
            sample['seg_map_path'] = str(root / 'masks' / path.relative_to(root))
        counts = meta['counts'][self.split], len(samples)
        if counts[0] != counts[1]:
            raise FileNotFoundError(
                f'{root / self.split} should have {counts[0]} images, but has '
                f'{counts[1]}; {remedy}'
            )
        return samples

    def extra_repr(self) -> list[str]:
        """Lines that mmpretrain prints of the dataset."""
        return [f'Root of dataset: \t{self.data_root}', f'Split: \t{self.split}']
