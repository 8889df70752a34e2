"""Pages of this folder's templates: one HTML file that needs no other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aib_mm.utils.files import write_atomically


def write_page(
    path: Path, template: str, helpers: Mapping[str, Any], **content: Any
) -> None:
    """Fill in a template, which lies beside this module.

    Args:
        path: file; its folder is made if need be.
        template: its name.
        helpers: functions and constants that its macros see too.
        content: what it shows.
    """
    # Here, as importing it takes as long as half of this package.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(helpers)
    write_atomically(path, environment.get_template(template).render(content))
