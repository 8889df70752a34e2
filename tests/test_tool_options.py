"""What the options of tools/train.py and tools/test.py make of a config, and refuse."""

import ast
import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from aib_mm.cli import test as test_program
from aib_mm.cli import train as train_program
from aib_mm.errors import UsageError

HOSTS = ('mmpretrain', 'mmdet', 'mmseg')
PROGRAMS = {'train': train_program, 'test': test_program}


def write_config(path: Path, **settings) -> str:
    """A config of no particular model, for what happens before one is built."""
    loader = dict(num_workers=2, dataset=dict(type='Any', pipeline=[dict(type='Pack')]))
    content = dict(
        default_scope='mmpretrain',
        model=dict(type='Any'),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy'),
        optim_wrapper=dict(type='OptimWrapper'),
        default_hooks=dict(visualization=dict(type='Hook')),
        visualizer=dict(type='Visualizer'),
    )
    content.update(settings)
    Config(content).dump(path)
    return str(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder with ``config.py`` and the checkpoint ``good.pth``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')
    write_config(tmp_path / 'config.py')
    torch.save(dict(state_dict={}, meta={}), 'good.pth')
    return tmp_path


def configure(program: str, *arguments: str) -> Config:
    module = PROGRAMS[program]
    return module.configure(module.make_parser().parse_args(arguments))


ERRORS = [
    ('train', ['none.py'], r'config none\.py does not exist; give the path'),
    ('train', ['broken.py'], r'config broken\.py cannot be read: .*line 1'),
    ('train', ['baseless.py'], r'config baseless\.py cannot be read: .*none\.py'),
    ('train', ['importing.py'], r'importing\.py cannot be read: .*no_such_module'),
    ('train', ['config.py', '--resume', 'none.pth'], r'none\.pth does not exist'),
    ('train', ['config.py', '--resume', 'good.pth'], r'good\.pth has no message_hub'),
    (
        'train',
        ['config.py', '--cfg-options', 'load_from=none.pth'],
        r'none\.pth does not exist',
    ),
    (
        'train',
        ['config.py', '--cfg-options', 'default_scope=mmrotate'],
        r"must be one of \['mmpretrain', 'mmdet', 'mmseg'\], got 'mmrotate'",
    ),
    (
        'train',
        ['config.py', '--cfg-options', 'model.type.name=3'],
        r'--cfg-options .*does not fit config config\.py',
    ),
    (
        'train',
        ['config.py', '--cfg-options', 'default_scope=mmdets'],
        r"got 'mmdets'; .*did you mean 'mmdet'\?",
    ),
    (
        'train',
        ['config.py', '--cfg-options', 'model=None'],
        r'config config\.py has no model: training needs it',
    ),
    (
        'test',
        ['config.py', 'good.pth', '--cfg-options', 'test_cfg=None'],
        r'config config\.py has no test_cfg: a test needs it',
    ),
    ('train', ['config.py', '--auto-scale-lr'], r'needs auto_scale_lr.base_batch_size'),
    ('train', ['config.py', '--amp'], r'--amp: mixed-precision training needs a GPU'),
    ('train', ['config.py', '--launcher', 'pytorch'], r'variables RANK, WORLD_SIZE'),
    ('test', ['config.py', 'none.pth'], r'none\.pth does not exist; give the path'),
    ('test', ['config.py', 'garbage.pth'], r'garbage\.pth cannot be read, it is damag'),
    ('test', ['config.py', '.'], r'checkpoint \. is a folder'),
    ('test', ['config.py', 'good.pth', '--out', 'a.txt'], r'must end in one of \.pkl'),
    (
        'test',
        ['config.py', 'good.pth', '--out', 'a.txt', '--out-item', 'metrics'],
        r'must end in one of \.json',
    ),
    ('test', ['config.py', 'good.pth', '--out-item', 'pred'], r'pred needs --out FILE'),
    ('test', ['config.py', 'good.pth', '--show', '--tta'], r'leave --tta or --show'),
    (
        'test',
        ['config.py', 'good.pth', '--show', '--cfg-options', 'default_hooks={}'],
        r'need a visualization hook',
    ),
]


@pytest.mark.parametrize(('program', 'arguments', 'message'), ERRORS)
def test_users_errors(place, monkeypatch, capsys, program, arguments, message):
    monkeypatch.setattr('aib_mm.training.start.get_device', lambda: 'cpu')
    monkeypatch.setattr('aib_mm.training.distributed.get_device', lambda: 'cpu')
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    (place / 'broken.py').write_text('a = (\n')
    (place / 'baseless.py').write_text("_base_ = 'none.py'\n")
    (place / 'importing.py').write_text(
        "custom_imports = dict(imports=['no_such_module'])\n"
    )
    (place / 'garbage.pth').write_bytes(b'no checkpoint')
    if 'default_hooks={}' in arguments:
        write_config(place / 'config.py', default_hooks={})
        arguments = arguments[:-2]
    assert PROGRAMS[program].main(arguments) == 2
    errors = capsys.readouterr().err.strip()
    assert errors.startswith(f'{program}.py: error: ') and '\n' not in errors
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors)


@pytest.mark.parametrize(
    ('option', 'message'),
    [('lr', "takes KEY=VALUE pairs, got 'lr'"), ('a=[(1,2]', 'Imbalanced brackets')],
)
def test_unreadable_cfg_options(place, capsys, option, message):
    assert train_program.main(['config.py', '--cfg-options', option]) == 2
    assert message in capsys.readouterr().err


def test_moved_work_folder_is_named(place):
    (place / 'run').mkdir()
    (place / 'run/last_checkpoint').write_text('/gone/epoch_3.pth')
    with pytest.raises(UsageError, match=r'run has none that can be read: put it back'):
        configure('train', 'config.py', '--work-dir', 'run', '--resume')
    content = dict(state_dict={}, meta=dict(seed=5), message_hub={}, optimizer={})
    torch.save(content, place / 'run/epoch_3.pth')
    cfg = configure('train', 'config.py', '--work-dir', 'run', '--resume')
    assert (cfg.resume, cfg.load_from) == (True, 'run/epoch_3.pth')
    assert cfg.randomness.seed == 5


def test_resume_without_a_checkpoint_keeps_load_from(place):
    options = ['--resume', '--cfg-options', 'load_from=good.pth']
    cfg = configure('train', 'config.py', *options)
    assert (cfg.resume, cfg.load_from) == (False, 'good.pth')


def test_work_dir_is_named_after_the_config(place):
    assert configure('train', 'config.py').work_dir == './work_dirs/config'
    options = ['--cfg-options', 'work_dir=a']
    assert configure('train', 'config.py', *options).work_dir == 'a'
    both = [*options, '--work-dir', 'b']
    assert configure('train', 'config.py', *both).work_dir == 'b'


def test_training_switches(place, monkeypatch):
    monkeypatch.setattr('aib_mm.training.start.get_device', lambda: 'cuda')
    switches = ['--no-validate', '--amp', '--auto-scale-lr', '--deterministic']
    loaders = ['--no-pin-memory', '--no-persistent-workers']
    options = ['--seed', '3', '--cfg-options', 'auto_scale_lr.base_batch_size=8']
    cfg = configure('train', 'config.py', *switches, *loaders, *options)
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    assert cfg.auto_scale_lr == dict(base_batch_size=8, enable=True)
    assert cfg.randomness == dict(seed=3, deterministic=True)
    assert cfg.train_dataloader.pin_memory is False
    assert cfg.train_dataloader.persistent_workers is False


def test_amp_keeps_the_configs_scale_and_refuses_foreign_wrappers(place, monkeypatch):
    monkeypatch.setattr('aib_mm.training.start.get_device', lambda: 'cuda')
    options = ['--amp', '--cfg-options', 'optim_wrapper.loss_scale=512.0']
    assert configure('train', 'config.py', *options).optim_wrapper.loss_scale == 512
    foreign = ['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper']
    assert train_program.main(['config.py', *foreign]) == 2


@pytest.mark.parametrize(
    ('scope', 'filled'), [('mmpretrain', True), ('mmdet', False), ('mmseg', False)]
)
def test_loader_defaults_are_the_hosts(place, scope, filled):
    options = ['--cfg-options', f'default_scope={scope}']
    loader = configure('train', 'config.py', *options).train_dataloader
    assert ('collate_fn' in loader) is filled
    assert loader.get('persistent_workers', False) is filled
    none = configure('train', 'config.py', *options, 'train_dataloader.num_workers=0')
    assert none.train_dataloader.persistent_workers is False


def test_drawing_per_host(place):
    show = ['--show', '--show-dir', 'shown', '--wait-time', '0.5']
    scope = ['--cfg-options', 'default_scope=']

    def configured(host, *more):
        options = [*show, *more, scope[0], scope[1] + host]
        return configure('test', 'config.py', 'good.pth', *options)

    hook = configured('mmpretrain').default_hooks.visualization
    drawn = dict(show=True, wait_time=0.5)
    assert hook == dict(type='Hook', enable=True, out_dir='shown', interval=1, **drawn)
    hook = configured('mmdet').default_hooks.visualization
    assert hook == dict(type='Hook', draw=True, test_out_dir='shown', **drawn)
    cfg = configured('mmseg', '--interval', '7')
    hook = cfg.default_hooks.visualization
    assert hook == dict(type='Hook', draw=True, interval=7, **drawn)
    assert cfg.visualizer.save_dir == 'shown'
    with pytest.raises(Exception, match='mmdet draws every test image'):
        configured('mmdet', '--interval', '7')


@pytest.mark.parametrize(
    ('scope', 'metric'),
    [('mmpretrain', 'mmengine.DumpResults'), ('mmdet', 'mmdet.DumpDetResults')],
)
@pytest.mark.parametrize('many', ['one', 'list', 'evaluator'])
def test_predictions_go_to_a_pickle(place, scope, metric, many):
    own = dict(type='Accuracy')
    evaluator = {'one': own, 'list': [own], 'evaluator': dict(metrics=[own])}[many]
    write_config(place / 'c.py', default_scope=scope, test_evaluator=evaluator)
    found = configure('test', 'c.py', 'good.pth', '--out', 'a.pkl').test_evaluator
    found = found.metrics if many == 'evaluator' else found
    assert list(found) == [own, dict(type=metric, out_file_path='a.pkl')]


def test_masks_go_to_a_folder(place):
    write_config(
        place / 'c.py', default_scope='mmseg', test_evaluator=dict(type='IoUMetric')
    )
    cfg = configure('test', 'c.py', 'good.pth', '--out', 'masks')
    saver = dict(type='IoUMetric', output_dir='masks', keep_results=True)
    assert list(cfg.test_evaluator) == [saver]
    write_config(place / 'c.py', default_scope='mmseg')
    assert test_program.main(['c.py', 'good.pth', '--out', 'masks']) == 2


@pytest.mark.parametrize(
    ('scope', 'model'),
    [
        ('mmpretrain', 'mmpretrain.AverageClsScoreTTA'),
        ('mmdet', 'DetTTAModel'),
        ('mmseg', 'SegTTAModel'),
    ],
)
def test_tta_defaults(place, scope, model):
    dataset = dict(
        type='Wrapper', dataset=dict(pipeline=[dict(type='A'), dict(type='B')])
    )
    write_config(
        place / 'c.py', default_scope=scope, test_dataloader=dict(dataset=dataset)
    )
    cfg = configure('test', 'c.py', 'good.pth', '--tta')
    assert cfg.model.type == model and cfg.model.module == dict(type='Any')
    first, last = cfg.test_dataloader.dataset.dataset.pipeline
    assert first == dict(type='A') and last.type == 'TestTimeAug'
    # The sample that the host merges into is of the plain view.
    plain = -1 if scope == 'mmseg' else 0
    assert sorted(flip.prob for flip in last.transforms[0]) == [0, 1]
    assert last.transforms[0][plain].prob == 0
    pack = 'PackDetInputs' if scope == 'mmdet' else 'B'
    assert last.transforms[-1][0].type == pack
    assert cfg.custom_hooks[-1].type == 'MergedFieldsHook'


@pytest.mark.parametrize('scope', HOSTS)
def test_tta_loads_annotations_after_the_flip(place, scope):
    names = ('LoadImageFromFile', 'LoadMaskAnnotations', 'Resize', 'Pack')
    steps = [dict(type=name) for name in names]
    loader = dict(dataset=dict(type='Any', pipeline=steps))
    write_config(place / 'c.py', default_scope=scope, test_dataloader=loader)
    pipeline = configure('test', 'c.py', 'good.pth', '--tta').test_dataloader
    *before, last = pipeline.dataset.pipeline
    assert [step.type for step in before] == ['LoadImageFromFile', 'Resize']
    flips, annotations, pack = last.transforms
    assert {flip.type for flip in flips} == {'RandomFlip'} and len(pack) == 1
    assert [step.type for step in annotations] == ['LoadMaskAnnotations']


def test_tta_needs_no_measure_of_one_pass(place):
    names = ('Accuracy', 'AttentionLocalization', 'LatentInformation', 'SamplesDrawn')
    metrics = [dict(type=name) for name in names]
    write_config(place / 'c.py', test_evaluator=metrics)
    found = configure('test', 'c.py', 'good.pth', '--tta').test_evaluator
    assert [metric.get('optional') for metric in found] == [None, True, True, True]
    plain = configure('test', 'c.py', 'good.pth').test_evaluator
    assert not any('optional' in metric for metric in plain)


def test_tta_switches_a_hook_off_that_would_end_it(place):
    hooks = dict(visualization=dict(type='VisualizationHook', enable=True))
    write_config(place / 'c.py', default_hooks=hooks)
    cfg = configure('test', 'c.py', 'good.pth', '--tta')
    assert cfg.default_hooks.visualization.enable is False


def test_tta_of_a_one_logit_segmentor_is_refused(place):
    model = dict(type='EncoderDecoder', decode_head=dict(out_channels=1))
    write_config(place / 'c.py', default_scope='mmseg', model=model)
    with pytest.raises(UsageError, match='takes the sigmoid of what is a probability'):
        configure('test', 'c.py', 'good.pth', '--tta')


def test_tta_of_mmseg_may_come_from_the_config(place):
    tta = dict(tta_model=dict(type='M'), tta_pipeline=[dict(type='P')])
    write_config(place / 'c.py', default_scope='mmseg', **tta)
    cfg = configure('test', 'c.py', 'good.pth', '--tta')
    assert cfg.model == dict(type='M', module=dict(type='Any'))
    assert list(cfg.test_dataloader.dataset.pipeline) == [dict(type='P')]


def test_half_precision_test(place):
    assert configure('test', 'config.py', 'good.pth', '--amp').test_cfg.fp16 is True


def host_arguments(source: str) -> dict[str, dict]:
    """Names and settings of all ``add_argument`` calls of a program."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if getattr(getattr(node, 'func', None), 'attr', '') != 'add_argument':
            continue
        settings = {
            keyword.arg: ast.literal_eval(keyword.value)
            for keyword in node.keywords
            if keyword.arg in ('choices', 'action', 'nargs', 'const')
            and not isinstance(keyword.value, ast.Name)
        }
        found.update({name.value: settings for name in node.args})
    return found


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('program', PROGRAMS)
def test_options_are_a_superset_of_the_hosts(host, program):
    spec = importlib.util.find_spec(host)
    if spec is None:
        pytest.skip(f'{host} is not installed')
    source = Path(spec.submodule_search_locations[0], '.mim/tools', f'{program}.py')
    parser = PROGRAMS[program].make_parser()
    ours = {name: a for a in parser._actions for name in a.option_strings or [a.dest]}
    theirs = host_arguments(source.read_text())
    assert len(theirs) >= 8 and '--cfg-options' in theirs
    for name, settings in theirs.items():
        assert name in ours, f'{host} has {name}'
        assert set(settings.get('choices', [])) <= set(ours[name].choices or [])
        if settings.get('action') == 'store_true':
            assert ours[name].nargs in (0, '?'), f'{name} works without a value'
        if settings.get('nargs') == '?':
            assert ours[name].nargs == '?' and ours[name].const == settings['const']
    positionals = [name for name in theirs if not name.startswith('-')]
    assert [a.dest for a in parser._actions if not a.option_strings] == positionals
