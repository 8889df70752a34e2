"""``tools/cross_domain.py``: one model on the data of other domains, as one table."""

import argparse

from aib_mm.cli.options import add_shared_options, filled, program


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog='cross_domain.py',
        description='Test a trained model on other domains, without any training there',
    )
    add = parser.add_argument
    add('config', help='config file of the model')
    add(
        'checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help='of this config; with several the table gives mean and spread',
    )
    add(
        '--domains',
        nargs='+',
        required=True,
        metavar='FILE',
        help='config files that define domains = {NAME: changes of test_dataloader}, '
        'for instance configs/mmpretrain/_base_/domains/stl10.py',
    )
    add('--data-root', help="folder of all domains' data, instead of the files' own")
    own = "also the config's own test set, as first column"
    add('--own', action='store_true', help=own)
    add_shared_options(parser)
    return parser


def cross_domain(args: argparse.Namespace) -> None:
    """Test every checkpoint on every domain; print and write the table."""
    from aib_mm.experiments.maps.cross_domain import cross_domain
    from aib_mm.training.runner import RunSettings

    cross_domain(args, filled(RunSettings, args))


main = program(make_parser, cross_domain)
