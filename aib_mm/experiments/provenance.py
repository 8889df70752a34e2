"""What a figure depends on besides the models: settings, machine, versions."""

import hashlib
import json
from typing import Any

import torch

from aib_mm.version import __version__


def fingerprint(*identity: Any) -> str:
    """Changes whenever the values do, or the version of aib_mm or torch.

    Args:
        identity: settings as plain containers; anything else counts as its text.
    """
    text = json.dumps(
        [*identity, __version__, torch.__version__], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()
