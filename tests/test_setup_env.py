"""The set-up script: what it refuses, and what it does with a stand-in for Python."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path('tools/dev/setup_env.sh')
TOOLS = (
    *('awk', 'bash', 'cat', 'cut', 'date', 'df', 'dirname', 'env', 'flock', 'grep'),
    *('head', 'mkdir', 'mktemp', 'mv', 'nproc', 'rm', 'rmdir', 'sed', 'sha256sum'),
    *('gzip', 'sleep', 'tail', 'tar', 'touch', 'tr', 'wc'),
)

# Answers what the script asks of Python and pip, and writes down what was installed.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  *version_info*) echo "${FAKE_VERSION:-3.11}" ;;
  *'import venv'*) [ -z "${NO_VENV:-}" ] ;;
  *sysconfig.get_path*) echo "${FAKE_INCLUDE:-$FAKE_HOME}" ;;
  *'pip --version'*) echo pip ;;
  *'-m venv'*)
    mkdir -p "${@: -1}/bin"
    cp "$0" "${@: -1}/bin/python"
    echo venv >>"$FAKE_HOME/calls" ;;
  *'import cv2'*) ;;
  '- mmcv '*) cat >/dev/null; [ -e "$FAKE_HOME/mmcv-installed" ] ;;
  -) cat >/dev/null; echo "torch${FAKE_TORCH:-2.11.0}-cp311-linux-x86_64-cpu-O2" ;;
  *'pip download'*)
    while [ "$1" != --dest ]; do shift; done
    mkdir -p "$2/mmcv-2.1.0/mmcv"
    tar -czf "$2/mmcv-2.1.0.tar.gz" -C "$2" mmcv-2.1.0 ;;
  tools/dev/group_sources.py*) [ -d "$2/mmcv" ] && touch "$2/in-groups" ;;
  *'pip wheel'*)
    echo "build $MAX_JOBS$([ ! -e "${@: -1}/in-groups" ] || echo ' in groups')" \
      >>"$FAKE_HOME/calls"
    if [ -n "${FAIL_GROUPS:-}" ] && [ -e "${@: -1}/in-groups" ]; then exit 1; fi
    if [ -n "${SLOW_BUILD:-}" ]; then sleep 50; fi
    if [ -n "${FAIL_BUILD:-}" ]; then
      echo 'x.cpp:1: fatal error: no such file'; for i in {1..40}; do echo tidying; done
      exit 1
    fi
    while [ "$1" != --wheel-dir ]; do shift; done
    touch "$2/mmcv-2.1.0-cp311-cp311-linux_x86_64.whl" ;;
  *mmcv-2.1.0-*.whl*)
    echo "wheel ${@: -1}" >>"$FAKE_HOME/calls"
    touch "$FAKE_HOME/mmcv-installed" ;;
  *'pip install'*'-r '*) echo stack >>"$FAKE_HOME/calls" ;;
  *'pip install'*'-e .'*) echo editable >>"$FAKE_HOME/calls" ;;
  *) ;;
esac
"""


class Checkout:
    """A copy of what the script reads, and a PATH of only what a test allows."""

    def __init__(self, repo: Path, folder: Path) -> None:
        self.folder = folder / 'checkout'
        self.bin = folder / 'bin'
        for directory in (self.folder / 'tools/dev', self.bin, folder / 'home'):
            directory.mkdir(parents=True)
        shutil.copy(repo / SCRIPT, self.folder / SCRIPT)
        shutil.copy(repo / 'tools/dev/group_sources.py', self.folder / 'tools/dev')
        shutil.copytree(repo / 'requirements', self.folder / 'requirements')
        shutil.copy(repo / 'setup.py', self.folder)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        (folder / 'home/Python.h').touch()
        self.add('cp', f'exec {shutil.which("cp")} "$@"')
        self.add('gcc')
        self.add('g++')
        self.add('df', 'echo; echo /dev/x 1 1 99999999 1% /')
        (self.bin / 'python3').write_text(FAKE_PYTHON)
        (self.bin / 'python3').chmod(0o755)
        self.home = folder / 'home'

    def add(self, name: str, body: str = 'true') -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f'#!{shutil.which("bash")}\n{body}\n')
        path.chmod(0o755)

    def start(self, *options: str, **env: str) -> subprocess.Popen[str]:
        home = {'HOME': str(self.home), 'FAKE_HOME': str(self.home)}
        return subprocess.Popen(
            [str(self.folder / SCRIPT), *options],
            env={'PATH': str(self.bin), **home, **env},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*options, **env)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self) -> list[str]:
        """What the stand-in did since the last time this was asked."""
        path = self.home / 'calls'
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(repo: Path, tmp_path: Path) -> Checkout:
    return Checkout(repo, tmp_path)


def test_a_complete_machine_passes(checkout: Checkout) -> None:
    result = checkout.run('--check-only')
    assert result.returncode == 0, result.stderr
    assert 'this machine can be set up' in result.stdout


@pytest.mark.parametrize(
    ('missing', 'message'),
    [
        ('gcc', 'compiler gcc not found, .*apt-get install build-essential'),
        ('g++', r'compiler g\+\+ not found, .*apt-get install build-essential'),
        ('python3', 'python3 not found: install Python 3.10-3.12'),
    ],
)
def test_a_missing_program_is_named(
    checkout: Checkout, missing: str, message: str
) -> None:
    (checkout.bin / missing).unlink()
    _expect_one_line(checkout.run('--check-only'), message)


@pytest.mark.parametrize(
    ('env', 'message'),
    [
        ({'NO_VENV': '1'}, 'no venv module: .*apt-get install python3.11-venv'),
        ({'FAKE_INCLUDE': '/nowhere'}, 'Python.h not found.*python3.11-dev'),
        ({'FAKE_VERSION': '3.9'}, 'python3 is Python 3.9, .*needs 3.10, 3.11 or 3.12'),
        ({'FAKE_VERSION': '3.13'}, 'python3 is Python 3.13, .*PYTHON=python3.11'),
        ({'PYTHON': 'python7'}, 'python7 not found'),
        ({'STACK': 'onedel'}, "STACK is 'onedel': use STACK=upstream or STACK=onedl"),
    ],
)
def test_an_unfit_python_or_stack_is_named(
    checkout: Checkout, env: dict[str, str], message: str
) -> None:
    _expect_one_line(checkout.run('--check-only', **env), message)


def test_too_little_disk_is_named(checkout: Checkout) -> None:
    checkout.add('df', f'echo; echo /dev/x 1 1 {3 * 2**20} 99% /')
    _expect_one_line(checkout.run(), '3 GiB free in .*, the set-up needs 10 GiB')


def test_every_problem_is_listed_and_nothing_is_installed(checkout: Checkout) -> None:
    (checkout.bin / 'gcc').unlink()
    result = checkout.run(NO_VENV='1')
    assert result.returncode == 1
    assert result.stderr.count('error: ') == 2
    assert checkout.calls() == []
    assert not (checkout.folder / '.venv').exists()


def test_the_first_run_builds_and_the_second_skips(checkout: Checkout) -> None:
    first = checkout.run(MAX_JOBS='3')
    assert first.returncode == 0, first.stderr
    key = 'torch2.11.0-cp311-linux-x86_64-cpu-O2'
    wheel = 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
    cached = checkout.home / '.cache/aib_mm/wheels' / key / wheel
    assert cached.exists()
    build = 'build 3 in groups'
    made = ['venv', 'stack', build, f'wheel {cached}', 'editable']
    assert checkout.calls() == made
    assert '[4/6] building mmcv 2.1.0 with its ops' in first.stdout
    assert re.search(r'\.venv is ready after \d+ s\. Next:\n +make demo', first.stdout)

    second = checkout.run()
    assert (second.returncode, second.stdout, checkout.calls()) == (0, '', [])


def test_files_that_do_not_compile_in_groups_are_compiled_each_by_itself(
    checkout: Checkout,
) -> None:
    result = checkout.run(MAX_JOBS='2', FAIL_GROUPS='1')
    assert result.returncode == 0, result.stderr
    calls = checkout.calls()
    assert [call for call in calls if call.startswith('build')] == [
        'build 2 in groups',
        'build 2',
    ]


def test_groups_hold_every_source_once_and_clashing_ones_apart(
    repo: Path, tmp_path: Path
) -> None:
    ops = tmp_path / 'mmcv/ops/csrc/pytorch'
    (ops / 'cpu').mkdir(parents=True)
    names = ['bezier_align', 'psamask', 'roi_align', 'roi_align_rotated']
    names += ['rotated_feature_align', 'voxelization']
    for path in [ops / 'pybind.cpp', *(ops / f'cpu/{name}.cpp' for name in names)]:
        path.write_text(f'// {path.stem}')
    command = [sys.executable, str(repo / 'tools/dev/group_sources.py'), str(tmp_path)]
    subprocess.run(command, check=True)
    groups = {}
    for path in sorted(ops.rglob('*.cpp')):
        included = re.findall(r'#include "(.+)\.cpp\.inc"', path.read_text())
        groups[str(path.relative_to(ops))] = included
        for name in included:
            assert (path.parent / f'{name}.cpp.inc').read_text() == f'// {name}'
    assert groups == {
        'cpu/group_0.cpp': ['roi_align'],
        'cpu/group_1.cpp': ['roi_align_rotated', 'rotated_feature_align'],
        'cpu/group_2.cpp': ['bezier_align', 'voxelization', 'psamask'],
        'group_0.cpp': ['pybind'],
    }


def test_a_folder_without_mmcv_is_refused(repo: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repo / 'tools/dev/group_sources.py'), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert 'is not an unpacked mmcv' in result.stderr


def test_a_new_environment_takes_the_wheel_from_the_cache(checkout: Checkout) -> None:
    cache = str(checkout.home / 'elsewhere')
    checkout.run(AIB_WHEEL_CACHE=cache)
    checkout.calls()
    shutil.rmtree(checkout.folder / '.venv')
    (checkout.home / 'mmcv-installed').unlink()
    assert checkout.run(AIB_WHEEL_CACHE=cache).returncode == 0
    calls = checkout.calls()
    assert not any(call.startswith('build') for call in calls)
    assert any(call.startswith(f'wheel {cache}/') for call in calls)


def test_another_torch_builds_mmcv_anew(checkout: Checkout) -> None:
    checkout.run()
    checkout.calls()
    lock = checkout.folder / 'requirements/lock-upstream.txt'
    lock.write_text(lock.read_text().replace('torch==2.11.0', 'torch==2.12.0'))
    assert checkout.run(FAKE_TORCH='2.12.0').returncode == 0
    assert any(call.startswith('build') for call in checkout.calls())


def test_an_environment_with_a_working_mmcv_is_accepted(checkout: Checkout) -> None:
    (checkout.home / 'mmcv-installed').touch()
    assert checkout.run().returncode == 0
    assert checkout.calls() == ['venv', 'stack', 'editable']


def test_a_failed_step_shows_the_log_and_the_next_run_resumes(
    checkout: Checkout,
) -> None:
    failed = checkout.run(FAIL_BUILD='1')
    assert failed.returncode == 1
    assert 'fatal error: no such file' in failed.stderr
    assert "'make setup' goes on from here" in failed.stderr
    checkout.calls()
    resumed = checkout.run()
    assert resumed.returncode == 0, resumed.stderr
    assert 'virtual environment .venv: there' in resumed.stdout
    assert 'venv' not in checkout.calls()


def test_an_interrupted_build_ends_at_once_and_leaves_nothing(
    checkout: Checkout,
) -> None:
    process = checkout.start(SLOW_BUILD='1')
    deadline = time.monotonic() + 120
    calls: list[str] = []
    while not any(call.startswith('build') for call in calls):
        assert time.monotonic() < deadline, calls
        time.sleep(0.1)
        calls += checkout.calls()
    process.terminate()
    process.communicate(timeout=40)
    assert process.returncode == 130
    cache = checkout.home / '.cache/aib_mm/wheels'
    deadline = time.monotonic() + 20
    while any(cache.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(cache.iterdir()) == []
    assert checkout.run().returncode == 0


def test_an_environment_of_another_python_is_refused(checkout: Checkout) -> None:
    checkout.run()
    (checkout.folder / '.venv/.aib-setup').unlink()
    # The environment's Python stays 3.11; the one asked for is 3.12.
    (checkout.bin / 'python3.12').write_text(
        FAKE_PYTHON.replace('FAKE_VERSION:-3.11', 'FAKE_VERSION:-3.12')
    )
    (checkout.bin / 'python3.12').chmod(0o755)
    result = checkout.run(PYTHON='python3.12')
    assert result.returncode == 1
    assert 'holds Python 3.11 and python3.12 is Python 3.12: rm -rf .venv' in (
        result.stderr
    )


def test_the_locks_hold_the_versions_that_the_short_files_name(repo: Path) -> None:
    for stack in ('upstream', 'onedl'):
        lock = (repo / f'requirements/lock-{stack}.txt').read_text().splitlines()
        locked = {line.partition(' ')[0] for line in lock}
        for name in (stack, 'demo', 'test', 'build'):
            for line in (repo / f'requirements/{name}.txt').read_text().splitlines():
                pin = line.partition('#')[0].strip()
                if '==' in pin and not pin.startswith('pip=='):
                    assert pin in locked, f'{stack}: {pin}'


def _expect_one_line(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode in (1, 2)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert re.search(message, lines[0]), lines[0]


def test_the_script_is_executable(repo: Path) -> None:
    assert os.access(repo / SCRIPT, os.X_OK)
