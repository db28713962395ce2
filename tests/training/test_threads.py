"""Choice of the number of threads during training."""

from types import SimpleNamespace

import pytest
import torch

import piwsl
from piwsl.training.config import load_config
from piwsl.training.threads import INTERVAL, TIMED, ThreadChoice, thread_choice

CPU = torch.device("cpu")


class Machine:
    """A run whose steps take a given time with each number of threads."""

    def __init__(self, monkeypatch, seconds: dict[int, float]) -> None:
        self.seconds, self.now, self.threads = seconds, 0.0, max(seconds)
        self.trainer = SimpleNamespace(global_step=0)
        monkeypatch.setattr(torch, "set_num_threads", self.set_threads)
        self.choice = ThreadChoice(max(seconds), clock=lambda: self.now)

    def set_threads(self, number: int) -> None:
        self.threads = number

    def run(self, steps: int, parts: int = 1) -> list[int]:
        """Run steps and return the number of threads of each part."""
        used = []
        for _ in range(steps):
            for part in range(parts):
                self.choice.on_train_batch_start(self.trainer, None, None, part)
                used.append(self.threads)
                self.now += self.seconds[self.threads]
                if part == parts - 1:
                    self.trainer.global_step += 1
                self.choice.on_train_batch_end(self.trainer, None, None, None, part)
        return used


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 0.1, 2: 0.5}, 1),  # another program uses a processor
        ({1: 0.1, 2: 0.097}, 1),  # not worth a second processor
        ({1: 0.1, 2: 0.06}, 2),
        ({1: 0.5, 2: 0.3, 4: 0.2, 8: 0.195, 16: 0.4}, 4),
        ({1: 0.5, 3: 0.2, 6: 0.1}, 6),
    ],
)
def test_the_smallest_number_of_threads_that_is_fast_is_chosen(monkeypatch, seconds, best):
    machine = Machine(monkeypatch, seconds)
    measured = TIMED * len(seconds)
    used = machine.run(INTERVAL)
    assert sorted(set(used[:measured]), reverse=True) == sorted(seconds, reverse=True)
    assert set(used[measured:]) == {best}


def test_the_choice_follows_the_load_of_the_machine(monkeypatch, caplog):
    caplog.set_level("INFO", "piwsl")
    machine = Machine(monkeypatch, {1: 0.1, 2: 0.06})
    assert machine.run(INTERVAL)[-1] == 2
    assert not caplog.records
    machine.seconds = {1: 0.1, 2: 0.5}
    assert machine.run(INTERVAL)[-1] == 1
    assert caplog.messages == ["threads: 1 of 2 (a step takes 500 ms with 2, 100 ms with 1)"]
    machine.seconds = {1: 0.1, 2: 0.06}
    assert machine.run(INTERVAL)[-1] == 2


def test_the_first_step_which_compiles_is_not_counted(monkeypatch):
    machine = Machine(monkeypatch, {1: 0.1, 2: 0.06})
    machine.seconds[2] = 30.0
    machine.run(1)
    machine.seconds[2] = 0.06
    assert machine.run(2 * TIMED)[-1] == 2


@pytest.mark.parametrize("parts", [3, 2 * TIMED + 3])
def test_a_step_in_parts_starts_one_measurement(monkeypatch, parts):
    machine = Machine(monkeypatch, {1: 0.1, 2: 0.06})
    used = machine.run(20, parts)
    assert used == [2] * TIMED + [1] * TIMED + [2] * (20 * parts - 2 * TIMED)


def test_a_given_number_is_used(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    config = load_config(None)
    assert thread_choice(config, CPU, 1).candidates == [4, 2, 1]
    assert thread_choice(config, torch.device("cuda"), 1) is None
    assert thread_choice(config, CPU, 2) is None
    for given in ({"threads": 3}, {"deterministic": True}):
        assert thread_choice(config.model_copy(update=given), CPU, 1) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert thread_choice(config, CPU, 1) is None


def test_a_run_measures_and_restores_the_number(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS")
    used = []
    set_threads = torch.set_num_threads

    def recorded(number: int) -> None:
        used.append(number)
        set_threads(number)

    options = {"optimizer.steps": 2 * TIMED + 1, "model.channels": 8, "data.train": 10, "data.validation": 5}
    set_threads(2)
    try:
        monkeypatch.setattr(torch, "set_num_threads", recorded)
        piwsl.train("aspirin", output=tmp_path / "run", options=options, progress=False)
        assert used[: 2 * TIMED] == [2] * TIMED + [1] * TIMED
        assert torch.get_num_threads() == 2
    finally:
        set_threads(1)
