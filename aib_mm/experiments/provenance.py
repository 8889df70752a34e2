"""What a figure depends on besides the models: settings, machine, versions."""

import hashlib
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from aib_mm.version import __version__


def fingerprint(*identity: Any) -> str:
    """Hash that changes whenever the values do, or the version of aib_mm or torch.

    Args:
        identity: settings as plain containers; anything else counts as its text.
    """
    text = json.dumps(
        [*identity, __version__, torch.__version__], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()


def machine() -> dict[str, Any]:
    """What measured times and, in the last digits, results depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'
    return dict(
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu,
        torch=torch.__version__,
        aib_mm=__version__,
    )


def machine_line() -> str:
    """The machine as a sentence under a table."""
    line = '{cpu}, {cores} cores; {gpu}; torch {torch}, aib_mm {aib_mm}.'
    return line.format(**machine())


def _cpu_name() -> str:
    """The processor as the system names it."""
    facts = Path('/proc/cpuinfo')
    text = facts.read_text(encoding='utf-8') if facts.is_file() else ''
    found = re.search(r'^model name\s*:(.*)$', text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()
