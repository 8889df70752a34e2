"""``python -m aib_mm doctor [CONFIG]``: does the environment work, and a config?

Every check gives a :class:`Finding`; a failed one carries its remedy.
"""

import argparse
import importlib.util
import inspect
import platform
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mmengine.config import Config
from torch import nn

from aib_mm import hosts
from aib_mm.diagnosis.check import check_config
from aib_mm.diagnosis.parts import part_problems
from aib_mm.diagnosis.step import NotTried, run_step, step_problem
from aib_mm.errors import first_few
from aib_mm.utils.configs import walk
from aib_mm.version import __version__

PYTHONS = ((3, 10), (3, 12))
SET_UP = "run 'make setup' in a checkout of aib_mm"
_SHOWN = 4  # names of parameters


@dataclass(frozen=True)
class Finding:
    """One line of the report; only ``failed`` ones make the exit code 1.

    ``open`` marks what could not be checked.
    """

    state: Literal['ok', 'note', 'open', 'failed']
    text: str
    remedy: str = ''


def run(options: argparse.Namespace) -> int:
    """Print the report and return 0 if nothing failed, else 1."""
    print(f'aib_mm {__version__} on Python {platform.python_version()}')
    print(f'{platform.platform()}, {sys.executable}\n')
    print(version_table(hosts.check_versions()))
    findings = [*_check_versions(), _check_pkg_resources(), _check_device()]
    findings += [_check_ops(), *_check_hosts()]
    if options.config is not None:
        findings += _check_config(options.config, options.traceback)
    for finding in findings:
        print(f'[{finding.state}]'.ljust(9) + finding.text)
        if finding.remedy:
            print(' ' * 9 + f'remedy: {finding.remedy}')
    states = Counter(finding.state for finding in findings)
    if states['failed']:
        print(f'\n{states["failed"]} failed')
    else:
        print('\nnothing failed, not all was tried' * states['open'] or '\nall is well')
    return int(states['failed'] > 0)


def version_table(checks: Iterable[hosts.VersionCheck]) -> str:
    """Found and tested versions as aligned text, one package a line."""
    rows = [('package', 'found', 'tested', 'tested (OneDL)', '')]
    for check in checks:
        needed, note = check.requirement, '' if check.inside else 'not tested'
        name, found = check.distribution or needed.module, check.found or '-'
        rows.append((name, found, needed.upstream, needed.onedl, note))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return '\n'.join(lines) + '\n'


def _check_versions() -> list[Finding]:
    findings = []
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        text = f'Python {platform.python_version()} is outside the tested 3.10 to 3.12'
        findings.append(Finding('note', text, f'PYTHON=python3.11: {SET_UP}'))
    outside = [check for check in hosts.check_versions() if not check.inside]
    for check in outside:
        text = f'{check.distribution} {check.found} was not tested ({check.tested} was)'
        findings.append(Finding('note', text, f'if it misbehaves, {SET_UP}'))
    for claim in hosts.mixed_families():
        text = f'two distributions own the same import name: {claim}'
        remedy = 'uninstall both, then install one family: upstream or OneDL'
        findings.append(Finding('failed', text, remedy))
    return findings


def _check_pkg_resources() -> Finding:
    from mmengine.utils import package_utils

    if 'pkg_resources' not in inspect.getsource(package_utils):
        return Finding('ok', 'mmengine needs no pkg_resources')
    if importlib.util.find_spec('pkg_resources') is not None:
        return Finding('ok', 'pkg_resources, which mmengine needs, is there')
    return Finding(
        'failed',
        "pkg_resources is missing: mmengine cannot resolve _base_ = 'mmpretrain::...'",
        'pip install "setuptools<81" (setuptools 82 and later lack it)',
    )


def _check_device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding('ok', 'no GPU: everything runs on the CPU')
    return Finding('ok', f'GPU: {torch.cuda.get_device_name()}')


def _check_ops() -> Finding:
    remedy = f'build mmcv from its sdist for this torch: {SET_UP}'
    if not hosts.is_installed('mmcv'):
        return Finding('failed', 'mmcv is not installed', SET_UP)
    try:
        import torch
        from mmcv.ops import nms

        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
        _, kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    except Exception as error:  # a wrong build fails in many ways
        text = f"mmcv's ops do not load: {type(error).__name__}: {error}"
        return Finding('failed', text, remedy)
    if kept.tolist() != [0, 2]:
        return Finding('failed', f"mmcv's nms kept {kept.tolist()}, not [0, 2]", remedy)
    return Finding('ok', "mmcv's ops load and run")


def _check_hosts() -> list[Finding]:
    states = hosts.register_hosts().values()
    findings = [_host_finding(state) for state in states]
    if not any(state.state == 'registered' for state in states):
        findings.append(Finding('failed', 'no host is registered', SET_UP))
    return findings


def _host_finding(state: hosts.HostState) -> Finding:
    if state.state == 'broken':
        text = f'host {state.host}: {type(state.error).__name__}: {state.error}'
        return Finding('failed', text, f'repair or reinstall {state.host}: {SET_UP}')
    if state.state == 'absent':
        return Finding('note', f'host {state.host}: not installed, {state.part} is off')
    return Finding('ok', f'host {state.host}: registered by {state.part}')


def _check_config(path: str, show_traceback: bool) -> list[Finding]:
    """What reading a config, building it and running a step of its model show."""
    built = check_config(path)
    if built.module is None:
        if show_traceback:
            traceback.print_exception(built.error)
        return [Finding('failed', f'{path}: {built.problem}', built.remedy)]
    model = built.module
    assert built.cfg is not None
    others = [
        Finding('failed', f'{path}: {problem}', remedy)
        for problem, remedy in part_problems(built.cfg, model)
    ]
    others += _check_imports(path, built.cfg, model)
    return [*_check_step(path, built.cfg, model, show_traceback), *others]


def _check_imports(path: str, cfg: Config, model: nn.Module) -> list[Finding]:
    """Whether the hosts' own programs, which import what a config says, find parts."""
    own = [type(m) for m in model.modules() if type(m).__module__.startswith('aib_mm.')]
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    lazy = any(at.endswith('type') and inspect.isclass(v) for at, v in walk(cfg.model))
    known = lazy or any(name.partition('.')[0] == 'aib_mm' for name in imports)
    if known or not own:
        return []
    text = f"{path} does not import aib_mm: mim and the hosts' own programs may not "
    text += f'find {own[0].__name__}; the programs of tools/ do'
    return [Finding('note', text, "custom_imports = dict(imports=['aib_mm'])")]


def _check_step(
    path: str, cfg: Config, model: nn.Module, show_traceback: bool
) -> list[Finding]:
    """What a training step and a prediction of a model show."""
    count = sum(parameter.numel() for parameter in model.parameters())
    text = f'{path} resolves; {type(model).__name__} builds, {count:,} parameters'
    try:
        step = run_step(cfg, model)
    except NotTried as reason:
        return [Finding('open', f'{text}; no step was tried: {reason}')]
    except Exception as error:  # of any part of a host
        if show_traceback:
            traceback.print_exception(error)
        problem, remedy = step_problem(error, model)
        text = f'{text}; but a step on made images fails: {problem}'
        return [Finding('failed', text, remedy)]
    size = f'{step.side}x{step.side}'
    text = f'{text}; one training step and one prediction on images of {size}'
    hosts_own = [name for name in step.idle if name not in step.own]
    state: Literal['note', 'failed'] = 'failed'
    if cfg.get('find_unused_parameters'):
        state = 'note'
    return [
        Finding('ok', text),
        *_idle(step.own, state, 'they are of aib_mm: let what they make be used'),
        *_idle(hosts_own, 'note', ''),
    ]


def _idle(names: Sequence[str], state: Literal['note', 'failed'], remedy: str) -> list:
    """A finding of parameters without a gradient, if there are any."""
    if not names:
        return []
    text = f'no gradient: {len(names)} parameters, {first_few(names, _SHOWN)}'
    return [Finding(state, text, remedy)]
