"""Settings as the text of a config."""

import ast

import pytest

from aib_mm.utils.config_text import Code, Loop, Noted, config_text, expression


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ('a', "'a'"),
        ([1, (2,), (3, 4), None], '[1, (2,), (3, 4), None]'),
        (dict(a=1, b=dict(c='x')), "dict(a=1, b=dict(c='x'))"),
        (Code('{{_base_.x}}'), '{{_base_.x}}'),
        (
            Loop({'': Code('x'), 'a': 1}, 'for x in y'),
            '[dict(x, a=1) for x in y]',
        ),
    ],
)
def test_values_on_one_line(value: object, text: str) -> None:
    assert expression(value) == text
    assert config_text(dict(name=value)) == f'name = {text}\n'
    ast.parse(text)


def test_comments_break_what_holds_them() -> None:
    neck = dict(
        _delete_=Noted(True, 'why'), type='X', sizes=[Noted(1, 'one'), 2], rest=(3, 4)
    )
    text = config_text(dict(_base_='a.py', model=dict(neck=Noted(neck, 'held'))))
    assert (
        text
        == """\
_base_ = 'a.py'

model = dict(
    neck=dict(  # held
        _delete_=True,  # why
        type='X',
        sizes=[
            1,  # one
            2,
        ],
        rest=(3, 4),
    ),
)
"""
    )


def test_what_is_too_long_is_broken() -> None:
    names = ['a' * 30, 'b' * 30, 'c' * 30]
    lines = [f"        '{name}'," for name in names]
    assert config_text(dict(x=dict(y=names))).splitlines() == [
        'x = dict(',
        '    y=[',
        *lines,
        '    ],',
        ')',
    ]
    loop = Loop({'': Code('a' * 40), 'n': 'c' * 40}, 'for a in b')
    assert config_text(dict(x=loop)).splitlines() == [
        'x = [',
        '    dict(',
        f'        {"a" * 40},',
        f"        n='{'c' * 40}',",
        '    )',
        '    for a in b',
        ']',
    ]
    assert config_text(dict(x='a' * 100)) == f"x = '{'a' * 100}'\n"
