"""Signs of life of the workers of a study, so that the trial of a killed worker is done again.

Optuna's own heartbeat is for databases only, is experimental, and tells of a death after minutes. Here a worker
writes its host and process number into its trial, and the time every minute: on the same host a death is seen at once.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

BEAT = 60.0  # s between signs of life
GRACE = 10 * BEAT  # s of silence after which a worker counts as dead
_WORKER, _SEEN = "worker", "seen"


@contextmanager
def alive(trial: Trial) -> Iterator[None]:
    """Give signs of life for the time of a trial."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            try:
                trial.set_user_attr(_SEEN, time.time())
            except StorageInternalError:  # a database that does not answer now may do so in a minute
                continue
            except UpdateFinishedTrialError:  # taken for dead after a long silence
                return

    trial.set_user_attr(_WORKER, {"host": host(), "pid": os.getpid()})
    trial.set_user_attr(_SEEN, time.time())
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def fail_abandoned(study: Study) -> list[int]:
    """Mark trials of dead workers as failed; their numbers."""
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _abandoned(trial):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            found.append(trial.number)
    return found


def _abandoned(trial: FrozenTrial) -> bool:
    worker: dict[str, Any] | None = trial.user_attrs.get(_WORKER)
    begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    if time.time() - trial.user_attrs.get(_SEEN, begun) > GRACE:
        return True
    return worker is not None and worker["host"] == host() and not _process_exists(worker["pid"])


def host() -> str:
    """Where a process number means the same: the machine and, in containers, their space of process numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _process_exists(pid: int) -> bool:
    if os.name != "posix":  # signal 0 is no question elsewhere
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
