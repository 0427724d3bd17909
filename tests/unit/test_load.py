"""What two readings say about the time between them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlobs.sender.load import Cpu, Reading, Task, Traffic, cpu_s_between, values_between

TRAINER, WORKER = (100, 1.0), (101, 2.0)


def test_the_values_are_those_of_the_time_between_the_readings():
    before = Reading(
        10.0,
        {TRAINER: Task(5.0, 1.0, 10_000_000, 1_000_000, 0)},
        Cpu(100.0, 400.0),
        Traffic(5_000_000, 1_000_000),
    )
    after = Reading(
        14.0,
        {
            TRAINER: Task(7.0, 1.0, 50_000_000, 9_000_000, 4_000_000),
            WORKER: Task(4.0, 0.0, 30_000_000, 0, 2_000_000),
        },
        Cpu(104.0, 416.0),
        Traffic(13_000_000, 1_000_000),
        {"machine_memory_percent": 42.0},
    )

    assert values_between(before, after) == {
        "system/memory_rss_mb": 80.0,
        "system/processes": 2.0,
        "system/cpu_percent": 150.0,
        "system/disk_read_mb_per_s": 2.0,
        "system/disk_write_mb_per_s": 1.5,
        "system/machine_cpu_percent": 25.0,
        "system/machine_network_received_mb_per_s": 2.0,
        "system/machine_network_sent_mb_per_s": 0.0,
        "system/machine_memory_percent": 42.0,
    }


def test_what_a_reading_lacks_is_left_out():
    before, after = Reading(0.0), Reading(1.0, {TRAINER: Task(1.0, 0.0, 5_000_000)})

    assert values_between(before, after) == {"system/memory_rss_mb": 5.0, "system/processes": 1.0}
    assert values_between(after, before) == {}


def test_a_child_that_came_and_went_between_two_readings_counts():
    before = {TRAINER: Task(1.0, 0.0, 0)}
    after = {TRAINER: Task(1.5, 3.0, 0)}

    assert cpu_s_between(before, after) == pytest.approx(3.5)


def test_a_child_that_was_counted_before_it_was_reaped_counts_once():
    before = {TRAINER: Task(1.0, 0.0, 0), WORKER: Task(10.0, 0.0, 0)}
    after = {TRAINER: Task(1.0, 10.5, 0)}

    assert cpu_s_between(before, after) == pytest.approx(0.5)


def test_a_child_that_nobody_waited_for_takes_nothing_off_the_others():
    before = {TRAINER: Task(1.0, 0.0, 0), WORKER: Task(10.0, 0.0, 0)}
    after = {TRAINER: Task(3.0, 0.0, 0)}

    assert cpu_s_between(before, after) == pytest.approx(2.0)


def test_a_pid_that_is_used_again_is_another_process():
    before = {TRAINER: Task(1.0, 0.0, 0), (101, 2.0): Task(10.0, 0.0, 0)}
    after = {TRAINER: Task(1.0, 10.0, 0), (101, 9.0): Task(0.25, 0.0, 0)}

    assert cpu_s_between(before, after) == pytest.approx(0.25)


class Machine:
    """Processes that burn CPU, begin children and wait for them, with the kernel's counters of each."""

    def __init__(self):
        self.own, self.reaped, self.parent = {TRAINER: 0.0}, {TRAINER: 0.0}, {}
        self.used_s = 0.0
        self._next = 200

    def act(self, what, chooser):
        process = chooser.choice(sorted(self.own))
        if what == "burn":
            self.own[process] += 0.5
            self.used_s += 0.5
        elif what == "begin":
            key = (self._next, float(self._next))
            self._next += 1
            self.own[key], self.reaped[key], self.parent[key] = 0.0, 0.0, process
        elif process in self.parent and process not in self.parent.values():
            parent = self.parent.pop(process)
            self.reaped[parent] += self.own.pop(process) + self.reaped.pop(process)

    def look(self):
        return {key: Task(own, self.reaped[key], 0) for key, own in self.own.items()}


@given(
    turns=st.lists(st.lists(st.sampled_from(["burn", "burn", "begin", "end"]), max_size=12), max_size=6),
    seed=st.integers(0, 1000),
)
def test_whatever_the_processes_do_their_cpu_time_is_counted_once(turns, seed):
    machine, chooser = Machine(), random.Random(seed)
    before, used_s = machine.look(), 0.0
    for turn in turns:
        for what in turn:
            machine.act(what, chooser)
        after = machine.look()
        assert cpu_s_between(before, after) == pytest.approx(machine.used_s - used_s)
        before, used_s = after, machine.used_s
