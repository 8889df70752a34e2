"""``tools/cross_domain.py``: one model on the data of other domains, as one table."""

import argparse
from collections.abc import Sequence

from aib_mm.cli.map_options import command_line
from aib_mm.cli.options import add_shared_options, guarded, run_settings


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
        '--own',
        action='store_true',
        help="also the config's own test set, as first column",
    )
    add_shared_options(parser)
    return parser


def cross_domain(args: argparse.Namespace) -> None:
    """Test every checkpoint on every domain; print and write the table."""
    from aib_mm.experiments.maps.cross_domain import CrossDomainOptions, cross_domain

    cross_domain(
        CrossDomainOptions(
            config=args.config,
            checkpoints=args.checkpoints,
            domains=args.domains,
            data_root=args.data_root,
            own=args.own,
            cfg_options=args.cfg_options,
            settings=run_settings(args),
            command=command_line(),
        )
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code."""
    return guarded(make_parser(), cross_domain, argv)
