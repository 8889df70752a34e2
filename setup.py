"""Packaging of aib_mm, with its configs and tools where mim looks for them.

mim wants ``aib_mm/.mim/{configs,tools,model-index.yml}``. A built package holds copies;
an editable install holds links into the checkout, made in the (ignored) folder
``aib_mm/.mim``.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

ROOT = Path(__file__).resolve().parent
MIM_PARTS = ('configs', 'tools', 'model-index.yml')
NOT_SHIPPED = shutil.ignore_patterns('__pycache__', '*.pyc', 'dev')


def fill_mim(package: Path, link: bool) -> None:
    """Put what mim reads into ``package/.mim``; copy where links are not possible."""
    target = package / '.mim'
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in MIM_PARTS:
        source = ROOT / name
        if link:
            try:
                (target / name).symlink_to(os.path.relpath(source, target))
                continue
            except OSError:
                pass
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=NOT_SHIPPED)
        else:
            shutil.copy2(source, target / name)


class BuildPyWithMim(build_py):
    """Adds ``.mim`` to a wheel, or to the checkout for a PEP 660 editable install."""

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            fill_mim(ROOT / 'aib_mm', link=True)
        else:
            fill_mim(Path(self.build_lib) / 'aib_mm', link=False)


class DevelopWithMim(develop):
    """Adds ``.mim`` to the checkout for an editable install of the older kind."""

    def run(self):
        fill_mim(ROOT / 'aib_mm', link=True)
        super().run()


def requirements(name: str) -> list[str]:
    """The lines of ``requirements/NAME.txt`` without their comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    bare = (line.partition('#')[0].strip() for line in lines)
    return [line for line in bare if line]


def version() -> str:
    """``__version__`` of ``aib_mm/version.py``, without importing the package."""
    names: dict = {}
    exec((ROOT / 'aib_mm' / 'version.py').read_text(), names)
    return names['__version__']


setup(
    name='aib_mm',
    version=version(),
    description='Information-bottleneck spatial attention for the OpenMMLab toolboxes',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='aib_mm authors',
    license='Apache License 2.0',
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(include=['aib_mm', 'aib_mm.*']),
    package_data={
        '': ['py.typed', '*.html', '*.css', '*.js', '*.json', '*.yml'],
        'aib_mm': ['weights/*.pth'],
    },
    python_requires='>=3.10',
    # Neither family of hosts: upstream and OneDL own the same import names.
    install_requires=['numpy', 'torch'],
    extras_require={
        'upstream': requirements('upstream'),
        'onedl': requirements('onedl'),
        'demo': requirements('demo'),
        'interpret': requirements('interpret'),
        'test': requirements('test'),
    },
    cmdclass={'build_py': BuildPyWithMim, 'develop': DevelopWithMim},
    zip_safe=False,
)
