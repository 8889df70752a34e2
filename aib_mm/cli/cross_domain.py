"""``tools/cross_domain.py``: one model on the data of other domains, as one table.

A domain is what changes in the config's own ``test_dataloader``. Each is tested by a
Runner of its own, so that a figure is the one that ``tools/test.py`` would give.
"""

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from numbers import Real
from pathlib import Path
from typing import Any
from urllib.error import URLError

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import DATASETS, DefaultScope
from rich.console import Console

from aib_mm.cli.common import add_shared_options, guarded
from aib_mm.cli.test import configure
from aib_mm.diagnosis.configs import load_config
from aib_mm.diagnosis.explained import explained
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.results import is_number, machine, seeds_cell
from aib_mm.training.random_state import random_state, set_random_state
from aib_mm.training.runner import build_runner, set_loader_options
from aib_mm.utils.files import json_text, write_atomically
from aib_mm.utils.tables import Column, Table, digits_for, markdown, terminal_table

OWN = 'own test set'
TOP1 = 'accuracy/top1'


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='cross_domain.py',
        description='Test a trained model on other domains, without any training there',
    )
    parser.add_argument('config', help='config file of the model')
    parser.add_argument(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='of this config; with several the table gives mean and spread',
    )
    parser.add_argument(
        '--domains',
        nargs='+',
        required=True,
        metavar='FILE',
        help='config files that define domains = {NAME: changes of test_dataloader}, '
        'for instance configs/mmpretrain/_base_/domains/stl10.py',
    )
    parser.add_argument(
        '--data-root', help="folder of all domains' data, instead of the files' own"
    )
    parser.add_argument(
        '--own', action='store_true', help=f"also the config's {OWN}, as first column"
    )
    add_shared_options(parser)
    # What the testing program also offers, and this one does not.
    parser.set_defaults(out=None, out_item=None, show=False, show_dir=None, tta=False)
    return parser


def cross_domain(args: argparse.Namespace) -> None:
    """Test every checkpoint on every domain; print and write the table."""
    domains = load_domains(args.domains)
    if args.own:
        domains = {OWN: {}, **domains}
    runs = [
        (name, configure_domain(args, number, name, changes))
        for number in range(len(args.checkpoints))
        for name, changes in domains.items()
    ]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in domains}
    work_dir = Path(runs[0][1].work_dir).parents[1]
    for number, (name, cfg) in enumerate(runs):
        with explained(cfg):
            runner = build_runner(cfg)
            if not number:  # it has set the processes up, one of which may download
                check_data(dict(runs[: len(domains)]))
            metrics = with_error(runner.test())
        found[name].append(dict(images=len(runner.test_dataloader.dataset), **metrics))
        if is_main_process():
            _write(args, found, work_dir)
    if is_main_process():
        _show(args, found, work_dir)


def check_data(configs: Mapping[str, Config]) -> None:
    """Build every test set once, so that a missing one shows before the first test.

    Random numbers are left as they were.

    Args:
        configs: of each domain by its name.

    Raises:
        UsageError: names the domain whose data cannot be read.
    """
    before = random_state()
    for name, cfg in configs.items():
        try:
            with (
                DefaultScope.overwrite_default_scope(cfg.default_scope),
                explained(cfg),
            ):
                dataset = DATASETS.build(cfg.test_dataloader.dataset)
                if hasattr(dataset, 'full_init'):
                    dataset.full_init()
        except URLError:  # has a message of its own
            raise
        except (OSError, ValueError, RuntimeError, UsageError) as error:
            raise UsageError(f'test data of domain {name!r}: {error}') from error
    set_random_state(before)


def load_domains(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """All domains of the files, by name, in their order.

    Raises:
        UsageError: a file is no config, defines no domains, or one a second time.
    """
    domains: dict[str, dict[str, Any]] = {}
    for path in paths:
        found = load_config(path, None).get('domains')
        if not isinstance(found, dict) or not found:
            raise UsageError(
                f'{path} defines no domains; it should say, for instance, domains = '
                "{'NAME': dict(dataset=dict(data_root='data/other'))}"
            )
        for name, changes in found.items():
            if name in domains or name == OWN:
                raise UsageError(f'{path} has a second domain {name!r}: rename it')
            if not isinstance(changes, dict):
                raise UsageError(
                    f'domain {name!r} of {path} must be a dict of changes of '
                    f'test_dataloader, got {changes!r}'
                )
            domains[name] = changes
    return domains


def configure_domain(
    args: argparse.Namespace, number: int, name: str, changes: Mapping[str, Any]
) -> Config:
    """The config of one test, of the checkpoint of a number, with a domain's data.

    Raises:
        UsageError: an option or the domain does not fit the config.
        CheckpointError: the checkpoint cannot be used.
    """
    args.checkpoint = args.checkpoints[number]
    cfg = configure(args)
    changes = dict(test_dataloader=deepcopy(dict(changes)))
    if args.data_root is not None and name != OWN:
        changes['test_dataloader'].setdefault('dataset', {})
        changes['test_dataloader']['dataset']['data_root'] = args.data_root
    try:
        cfg.merge_from_dict(changes)
    except (KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f'domain {name!r} does not fit test_dataloader of config {args.config}: '
            f'{error}'
        ) from error
    set_loader_options(
        cfg, ['test_dataloader'], defaults={}, no_pin_memory=args.no_pin_memory
    )
    folder = name.replace('/', '-').replace(' ', '-')
    cfg.work_dir = str(Path(cfg.work_dir) / f'checkpoint{number}' / folder)
    # Runners of one second would otherwise share a log.
    cfg.experiment_name = f'{Path(args.config).stem}_{number}_{folder}'
    return cfg


def with_error(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics, and the error where there is an accuracy, in percent."""
    if TOP1 not in metrics:
        return dict(metrics)
    return {'error %': 100 - metrics[TOP1], **metrics}


def results_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """One column a domain, one row a metric: mean ± sample standard deviation.

    Args:
        found: per domain the metrics of each checkpoint.
    """
    every = [metrics for of_domain in found.values() for metrics in of_domain]
    names = dict.fromkeys(
        name
        for metrics in every
        for name, value in metrics.items()
        if isinstance(value, Real)
    )
    rows = []
    for name in names:
        values = [[m.get(name) for m in of] for of in found.values()]
        numbers = [v for column in values for v in column if is_number(v)]
        digits = digits_for(numbers)
        if name == 'images':  # the same for every checkpoint
            values, digits = [column[:1] for column in values], 0
        rows.append([name, *(seeds_cell(column, digits) for column in values)])
    return Table([Column('metric'), *map(Column, found)], rows)


def _notes(args: argparse.Namespace, found: Mapping[str, Sequence]) -> list[str]:
    count = len(args.checkpoints)
    spread = '; mean ± sample standard deviation' if count > 1 else ''
    notes = [
        f'{args.config}, {count} checkpoint{"s" * (count > 1)}{spread}.',
        f'`{_command()}`',
        '{cpu}, {cores} cores; {gpu}; torch {torch}, aib_mm {aib_mm}.'.format(
            **machine()
        ),
    ]
    total = count * len(found)
    missing = total - sum(map(len, found.values()))
    if missing:
        notes.append(f'{missing} of {total} tests are not done yet.')
    return notes


def _write(
    args: argparse.Namespace, found: Mapping[str, Sequence], work_dir: Path
) -> None:
    text = markdown(results_table(found), _notes(args, found))
    write_atomically(work_dir / 'cross_domain.md', text)
    about = dict(config=args.config, checkpoints=args.checkpoints, command=_command())
    content = dict(about={**about, **machine()}, domains=found)
    write_atomically(work_dir / 'cross_domain.json', json_text(content))


def _show(
    args: argparse.Namespace, found: Mapping[str, Sequence], work_dir: Path
) -> None:
    Console().print(terminal_table(results_table(found)))
    print('\n'.join(_notes(args, found)))
    print(f'{work_dir}: cross_domain.md, cross_domain.json')


def _command() -> str:
    return shlex.join(['python', *sys.argv])


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), cross_domain, argv)
