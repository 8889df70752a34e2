"""Random numbers of several processes, and across an interruption.

mmengine seeds all processes alike, so that each draws the same noise for its images as
the others for theirs. It resumes weights, optimizer and schedules; the generators it
seeds anew, so that a resumed training draws the noise of its first epochs a second time
and ends with other weights than one that was not interrupted.
"""

import logging
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import DistSamplerSeedHook, Hook
from mmengine.logging import print_log
from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader

from aib_mm.training.safe_checkpoint import checkpoint_due

KEY = 'random_state'


def random_state() -> dict[str, Any]:
    """State of Python's, numpy's and torch's generators, of the present GPU's too.

    It holds plain containers and tensors only, which any loader of checkpoints reads.
    """
    _, keys, *rest = np.random.get_state()
    state: dict[str, Any] = dict(
        python=random.getstate(),
        numpy=(torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Go on where ``random_state`` was taken."""
    random.setstate(state['python'])
    keys, *rest = state['numpy']
    np.random.set_state(('MT19937', keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@FUNCTIONS.register_module()
def torch_worker_seeds(worker_id: int) -> None:
    """Leave a loader's workers the seeds torch gave them, other ones in each epoch.

    For ``worker_init_fn=dict(type='torch_worker_seeds')`` of a data loader: mmengine's
    own function gives the workers of every epoch the same seeds.
    """


def process_seed(seed: int, rank: int) -> int:
    """Seed of one of several processes, in [0, 2³²); no two of a run have the same.

    Far from ``seed`` itself, with which the weights were drawn, and from the numbers
    after it, which mmengine gives to the workers of data loaders and a user to the next
    run.
    """
    first = int(np.random.SeedSequence(seed).generate_state(1)[0])
    return (first + rank) % 2**32


@HOOKS.register_module()
class RankSeedHook(Hook):
    """Seed the processes apart, so that each draws noise of its own (paper, Eq. 12).

    Attention, latent, noise encoders, prior draws and dropout then differ between the
    processes, in training and at test. It comes when the model is built and its
    checkpoint is loaded: processes that were seeded apart before would start from
    different weights (mmengine's ``diff_rank_seed``). The Runner's seed stays the same
    everywhere, and with it what samplers shuffle by. One process is left as it is.
    """

    priority = 'NORMAL'
    _seeded = False

    def before_train(self, runner: Runner) -> None:
        """Seed once: a validation does not interrupt the numbers of the training."""
        if not self._seeded and get_world_size() > 1:
            set_random_seed(process_seed(runner.seed, get_rank()))
        self._seeded = True

    before_val = before_test = before_train


@HOOKS.register_module(name=DistSamplerSeedHook.__name__, force=True)
class SamplerAndRankSeedHook(RankSeedHook, DistSamplerSeedHook):
    """mmengine's default hook, and ``RankSeedHook``.

    It is registered under the default's name, which every Runner builds its hooks by:
    whatever config imports aib_mm has it, whichever program trains.
    """


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Make a resumed training go on as the one that was not interrupted.

    Checkpoints get the state of the random generators of every process, and resuming
    sets it before the next batch is loaded. What a validation draws is given back, as a
    resumed training does not repeat it; a training is then the same however often it is
    validated.

    Exact, on the same machine with the same number of threads and processes: after an
    epoch of a training that counts epochs, and after any iteration of one that counts
    iterations. What cannot be kept is said in one warning, when training starts.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._loader: DataLoader | None = None
        self._loaded: dict[str, Any] | None = None
        self._states: list[dict[str, Any]] | None = None
        self._before_val: dict[str, Any] | None = None
        self._resumed: _ResumedBatches | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        # The Runner takes over the seed later, for what it has not built by then.
        seeds = (checkpoint.get('meta', {}).get('seed'), runner.seed)
        self._loaded = dict(states=checkpoint.get(KEY), seeds=seeds)

    def before_train(self, runner: Runner) -> None:
        # With a generator of its own, the loader's iterators, which are not made anew
        # at the same moments in a resumed training, draw nothing from the model's.
        self._loader = runner.train_dataloader
        if self._loader.generator is None:
            self._loader.generator = torch.Generator()
            self._loader.generator.manual_seed(torch.initial_seed() + get_rank())
        lost = _lost_in_workers(runner)
        # At iteration 0 the checkpoint was loaded to start from, not to go on.
        if runner.iter == 0:
            self._loaded = None
        elif self._loaded is not None:
            lost += _lost_on_resuming(runner, **self._loaded)
        # With diff_rank_seed the seeds of other processes than the first are others.
        if lost and is_main_process():
            text = 'RandomStateHook: a resumed training is not exactly the one without '
            text += f'interruption: {"; ".join(lost)}'
            print_log(text, logger='current', level=logging.WARNING)

    def before_train_epoch(self, runner: Runner) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None or not _fit(loaded['states']):
            return
        state = loaded['states'][get_rank()]
        loop = runner.train_loop
        if not _counts_iterations(loop):
            _set_states(self._loader, state)
            return
        # The loop first goes through the batches that were seen, with random numbers.
        seen = 0 if getattr(loop, 'fast_forward_on_resume', False) else runner.iter
        self._resumed = _ResumedBatches(
            loop.dataloader_iterator, seen, partial(_set_states, self._loader, state)
        )
        loop.dataloader_iterator = self._resumed

    def before_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self._states = None
        if self._resumed is not None:
            runner.train_loop.dataloader_iterator = self._resumed.batches
            self._resumed = None

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if checkpoint_due(runner):
            self.after_train_epoch(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Note the state of every process, which a checkpoint may be saved with."""
        if self._loader is not None:  # else it is a validation without training
            state = random_state()
            state['loader'] = self._loader.generator.get_state()
            self._states = all_gather_object(state)

    def before_val(self, runner: Runner) -> None:
        self.after_train_epoch(runner)
        self._before_val = random_state()

    def after_val(self, runner: Runner) -> None:
        assert self._before_val is not None
        set_random_state(self._before_val)
        self._before_val = None

    def before_save_checkpoint(
        self, runner: Runner, checkpoint: dict[str, Any]
    ) -> None:
        # Only the first process comes here: it cannot ask the others now.
        if get_world_size() == 1 and self._before_val is None:
            self.after_train_epoch(runner)
        if self._states is not None:
            checkpoint[KEY] = self._states


class _ResumedBatches:
    """The batches of a resumed loop; ``resume`` is called after those already seen."""

    def __init__(self, batches: Any, seen: int, resume: Callable[[], None]) -> None:
        self.batches = batches
        self._left = seen
        self._resume = resume

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._left == 0:
            self._resume()
        self._left -= 1
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """OneDL's mmengine passes the seen batches over with this."""
        self.batches.skip_iter(num_iters)
        self._left -= num_iters


def _counts_iterations(loop: Any) -> bool:
    return hasattr(loop, 'dataloader_iterator')


def _set_states(loader: Any, state: dict[str, Any]) -> None:
    set_random_state(state)
    loader.generator.set_state(state['loader'].cpu())


def _fit(states: Any) -> bool:
    return isinstance(states, list) and len(states) == get_world_size()


def _lost_in_workers(runner: Runner) -> list[str]:
    loader, loop = runner.train_dataloader, runner.train_loop
    if not loader.num_workers:
        return []
    if not _counts_iterations(loop):
        if loader.persistent_workers:
            return [
                'with persistent_workers=True no checkpoint knows the random numbers '
                "of the loader's worker processes (with False they are exact)"
            ]
    elif hasattr(loop.dataloader_iterator, 'skip_iter') and hasattr(
        loader.sampler, 'skip'
    ):
        return [
            f'with num_workers={loader.num_workers} this mmengine starts the random '
            "numbers of the loader's worker processes anew (with 0 they are exact)"
        ]
    return []


def _lost_on_resuming(runner: Runner, states: Any, seeds: tuple) -> list[str]:
    lost = []
    if states is None:
        lost.append('the checkpoint holds no random state')
    elif not _fit(states):
        lost.append(
            f'the checkpoint holds the random states of {len(states)} process(es), now '
            f'there are {get_world_size()}'
        )
    elif torch.cuda.is_available() and 'cuda' not in states[get_rank()]:
        lost.append('the checkpoint was saved without a GPU')
    if seeds[0] not in (None, seeds[1]):
        lost.append(
            f'the checkpoint has seed {seeds[0]}, the data loader {seeds[1]} '
            f'(set randomness=dict(seed={seeds[0]}))'
        )
    if not _counts_iterations(runner.train_loop):
        batches = runner.iter % len(runner.train_dataloader)
        if batches:
            lost.append(
                f'the checkpoint was saved {batches} batches into an epoch, which '
                'starts again'
            )
    return lost
