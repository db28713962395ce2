"""Signals end a run at its next block of steps."""

import os
import signal
import threading

import pytest

from piwsl.runs.interruption import (
    hangup_as_termination,
    polite_interruption,
    signals_as_exceptions,
    uninterrupted,
)

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


@pytest.fixture(autouse=True)
def _handlers():
    """Give signals their default handlers, also where the tests themselves run under nohup or in the background."""
    before = [
        (number, signal.signal(number, handler))
        for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler))
    ]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signals_are_recorded_and_handlers_restored(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with polite_interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(number) is before


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with polite_interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hangup_is_a_termination():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with hangup_as_termination():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]


def test_other_threads_change_nothing():
    before = signal.getsignal(signal.SIGHUP)
    seen = []

    def work():
        with hangup_as_termination(), polite_interruption():
            seen.append(signal.getsignal(signal.SIGHUP))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_becomes_an_exception_that_exec_does_not_hide(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with signals_as_exceptions() as interruption:
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), number)
        assert caught.type is not KeyboardInterrupt  # the interpreter would end itself by SIGINT
        assert interruption.requested
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_waits_for_the_end_of_a_short_block(name):
    ended = []

    def work():
        with uninterrupted():
            os.kill(os.getpid(), getattr(signal, name))
            ended.append(True)

    with signals_as_exceptions(), pytest.raises(KeyboardInterrupt):
        work()
    assert ended == [True]


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exceptions() as interruption, uninterrupted():
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interruption.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
