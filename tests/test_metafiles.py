"""model-index.yml and the metafiles: what mim lists, for all toolkits."""

from pathlib import Path

import pytest
from mmengine import load

ROOT = Path(__file__).parents[1]
INDEX = load(ROOT / 'model-index.yml')['Import']
HOSTS = sorted(path.name for path in (ROOT / 'configs').iterdir() if path.is_dir())


def entries(host: str) -> list[dict]:
    return load(ROOT / 'configs' / host / 'metafile.yml')['Models']


def test_the_index_names_the_metafile_of_every_host() -> None:
    assert sorted(INDEX) == [f'configs/{host}/metafile.yml' for host in HOSTS]


@pytest.mark.parametrize('host', HOSTS)
def test_every_config_is_listed_once_and_every_entry_exists(host: str) -> None:
    folder = ROOT / 'configs' / host
    listed = [entry['Config'] for entry in entries(host)]
    files = [str(path.relative_to(ROOT)) for path in folder.glob('*.py')]
    assert sorted(listed) == sorted(files)
    for entry in entries(host):
        assert entry['Name'] == Path(entry['Config']).stem


@pytest.mark.parametrize('host', HOSTS)
def test_figures_say_whose_they_are_and_on_which_data(host: str) -> None:
    """COCO, CIFAR and the like were never trained here; DigitScenes is not theirs."""
    for entry in entries(host):
        for result in entry.get('Results', []):
            assert result['Dataset'], entry['Name']
            assert result['Metrics'], entry['Name']
            ours = result['Dataset'].startswith('DigitScenes')
            for metric in result['Metrics']:
                assert ("(the paper's figure)" in metric) != ours, (
                    entry['Name'],
                    metric,
                )
