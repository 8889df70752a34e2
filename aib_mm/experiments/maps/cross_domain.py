"""One model on the data of other domains, as one table.

A domain is what changes in the config's own ``test_dataloader``. Each is tested by a
Runner of its own, so that a figure is the one that ``tools/test.py`` would give.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from aib_mm.diagnosis.configs import load_config, merge_options
from aib_mm.diagnosis.explain import explained
from aib_mm.errors import UsageError
from aib_mm.experiments.grid.results import numbers, numeric_names, seeds_cell
from aib_mm.experiments.maps.data import build_test_set
from aib_mm.experiments.progress import make_console
from aib_mm.experiments.report import Report
from aib_mm.training.random_state import random_state, set_random_state
from aib_mm.training.runner import (
    RunSettings,
    build_runner,
    configure_test,
    set_loader_options,
)
from aib_mm.utils.tables import Column, Table, digits_for

OWN = 'own test set'
TOP1 = 'accuracy/top1'


def cross_domain(options: Namespace, settings: RunSettings) -> None:
    """Test every checkpoint on every domain; print and write the table.

    Args:
        options: options of the program.
        settings: settings of every test.

    Raises:
        UsageError: an option or a domain that does not fit the config, missing data.
        CheckpointError: an unusable checkpoint, or one that lacks weights.
    """
    domains = load_domains(options.domains)
    if options.own:
        domains = {OWN: {}, **domains}
    runs = [
        (name, _configure(options, settings, number, name, changes))
        for number in range(len(options.checkpoints))
        for name, changes in domains.items()
    ]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in domains}
    work_dir = Path(runs[0][1].work_dir).parents[1]
    for number, (name, cfg) in enumerate(runs):
        with explained(cfg):
            runner = build_runner(cfg)
            if not number:  # it has set the processes up, one of which may download
                _check_data(dict(runs[: len(domains)]))
            metrics = runner.test()
        figures = {'images': len(runner.test_dataloader.dataset)}
        if TOP1 in metrics:
            figures['error %'] = 100 - metrics[TOP1]
        found[name].append(figures | metrics)
        if is_main_process():
            written = _report(options, found).write(work_dir)
    if is_main_process():
        report = _report(options, found)
        report.show(make_console())
        print('\n'.join([*report.all_notes(), written]))


def _check_data(configs: Mapping[str, Config]) -> None:
    """Build every domain's test set once, so that a missing one shows before any test.

    Random numbers are left as they were.
    """
    before = random_state()
    for name, cfg in configs.items():
        with explained(cfg):
            build_test_set(cfg, f'test data of domain {name!r}')
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


def _configure(
    options: Namespace,
    settings: RunSettings,
    number: int,
    name: str,
    changes: Mapping[str, Any],
) -> Config:
    """The config of one test: the checkpoint of a number on a domain's data."""
    cfg = load_config(options.config, options.cfg_options)
    configure_test(cfg, options.checkpoints[number], settings)
    changes = dict(test_dataloader=deepcopy(dict(changes)))
    if options.data_root is not None and name != OWN:
        dataset = changes['test_dataloader'].setdefault('dataset', {})
        dataset['data_root'] = options.data_root
    merge_options(cfg, changes, f'domain {name!r}')
    pin_memory = settings.pin_memory
    set_loader_options(cfg, ['test_dataloader'], defaults={}, pin_memory=pin_memory)
    folder = name.replace('/', '-').replace(' ', '-')
    cfg.work_dir = str(Path(cfg.work_dir) / f'checkpoint{number}' / folder)
    # Runners of one second would otherwise share a log.
    cfg.experiment_name = f'{Path(options.config).stem}_{number}_{folder}'
    return cfg


def results_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """One column a domain, one row a metric: mean ± sample standard deviation.

    Args:
        found: metrics of each checkpoint, per domain.
    """
    rows = []
    for name in numeric_names(metrics for of in found.values() for metrics in of):
        values = [[m.get(name) for m in of] for of in found.values()]
        digits = digits_for(numbers(v for column in values for v in column))
        if name == 'images':  # the same for every checkpoint
            values, digits = [column[:1] for column in values], 0
        rows.append([name, *(seeds_cell(column, digits) for column in values)])
    return Table([Column('metric'), *map(Column, found)], rows)


def _report(options: Namespace, found: Mapping[str, Sequence]) -> Report:
    count = len(options.checkpoints)
    spread = '; mean ± sample standard deviation' if count > 1 else ''
    notes = [f'{options.config}, {count} checkpoint{"s" * (count > 1)}{spread}.']
    total = count * len(found)
    missing = total - sum(map(len, found.values()))
    if missing:
        notes.append(f'{missing} of {total} tests are not done yet.')
    about = {key: getattr(options, key) for key in ('config', 'checkpoints', 'command')}
    table = results_table(found)
    return Report('cross_domain', {'': table}, notes, about, dict(domains=found))
