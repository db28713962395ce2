"""Frames that stay in their file: forks, pickles, indices, damage."""

import os
import pickle
import subprocess
import sys
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

from piwsl.data.frames import Frame, FrameSet, Selection
from piwsl.data.lazy import JoinedFrames, LazyFrames, PerProcess
from piwsl.data.read import read_frames
from piwsl.data.write import write_frames
from piwsl.errors import DataError
from tests.support.ani_files import write_ani
from tests.support.frame_sets import assert_same_frames, mixed_frames
from tests.support.molecules import frame

ENDINGS = (".h5", ".db", ".aselmdb")


@pytest.fixture(params=[*ENDINGS, "ani"])
def lazy(request, tmp_path):
    if request.param == "ani":
        write_ani(tmp_path / "a.h5")
        return read_frames(tmp_path / "a.h5")
    write_frames(mixed_frames(), tmp_path / f"a{request.param}")
    return read_frames(tmp_path / f"a{request.param}")


def first(items):
    return items[0]


def test_frames_are_not_in_memory(lazy):
    assert isinstance(lazy.frames, LazyFrames)
    assert lazy[0] is not lazy[0]
    assert_same_frames([lazy[-1]], [list(lazy)[-1]])
    with pytest.raises(IndexError):
        lazy[len(lazy)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12: what this test is about
def test_forked_workers_read_what_their_parent_reads(lazy):
    expected = list(lazy)
    loader = DataLoader(
        lazy, batch_size=1, collate_fn=first, num_workers=2, multiprocessing_context=get_context("fork")
    )
    for _ in range(2):
        assert_same_frames(list(loader), expected)
        assert_same_frames(lazy, expected)


def test_a_pickle_holds_no_file_and_no_frames(lazy):
    expected = list(lazy)
    assert lazy.census is not None
    text = pickle.dumps(lazy.select([2, 0]))
    assert len(text) < 1000
    again = pickle.loads(text)
    assert_same_frames(again, [expected[2], expected[0]])


def test_of_frames_in_memory_only_the_chosen_ones_are_pickled():
    frames = FrameSet([frame("C6H6", seed=seed) for seed in range(200)])
    again = pickle.loads(pickle.dumps(frames.select([7, 3])))
    assert len(pickle.dumps(frames.select([7, 3]))) < len(pickle.dumps(frames)) / 20
    assert_same_frames(again, [frames[7], frames[3]])
    assert again.elements == [1, 6]


@pytest.mark.slow
def test_a_new_process_reads_from_pickles(tmp_path):
    """What a worker that is not forked gets."""
    write_ani(tmp_path / "ani.h5")
    sets = [read_frames(tmp_path / "ani.h5")]
    for ending in ENDINGS:
        write_frames(mixed_frames(), tmp_path / f"a{ending}")
        sets.append(read_frames(tmp_path / f"a{ending}"))
    (tmp_path / "sets.pickle").write_bytes(pickle.dumps(sets))
    code = "import pickle, sys; print([len(list(one)) for one in pickle.load(open(sys.argv[1], 'rb'))])"
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "sets.pickle")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[8, 7, 7, 7]\n"


def test_one_file_can_be_read_twice(lazy):
    again = read_frames(lazy.source)
    assert_same_frames([again[1], lazy[1]], [lazy[1], again[1]])


def test_selections_are_views(lazy):
    expected = list(lazy)
    chosen = lazy.select([3, 0, 2]).select([2, 1])
    assert isinstance(chosen.frames, Selection)
    assert chosen.frames.base is lazy
    assert_same_frames(chosen, [expected[2], expected[0]])
    assert_same_frames(lazy[1:3], expected[1:3])
    assert_same_frames(lazy.frames[::-2], expected[::-2])
    assert chosen.elements == sorted({*expected[2].species.tolist(), *expected[0].species.tolist()})


def test_the_census_is_that_of_the_frames(lazy):
    census, plain = lazy.census, FrameSet(list(lazy)).census
    assert census.formulas() == plain.formulas()
    assert census.elements == plain.elements
    assert census.sizes.tolist() == plain.sizes.tolist()
    for name in ("energy", "has_forces", "has_stress", "periodic"):
        assert np.array_equal(getattr(census, name), getattr(plain, name), equal_nan=name == "energy"), name


def test_joined_sets(tmp_path):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    parts = [mixed_frames().select([1, 4]), read_frames(tmp_path / "a.h5"), FrameSet([frame("CH4")])]
    joined = FrameSet(JoinedFrames(parts))
    expected = [one for part in parts for one in part]
    assert_same_frames(joined, expected)
    assert_same_frames([joined[i] for i in range(10)], expected)
    assert_same_frames([joined[-1], joined[-9]], [expected[-1], expected[-9]])
    assert joined.census.formulas() == FrameSet(expected).census.formulas()
    assert np.array_equal(joined.census.energy, FrameSet(expected).census.energy, equal_nan=True)


READ_EACH = """
import os, sys
from piwsl.data.read import read_frames
from piwsl.errors import DataError

for path in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            frames = read_frames(path)
            print("read", len(frames.census), len(list(frames)), flush=True)
        except DataError as error:
            print(error, flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print(path, "killed by signal", status)
"""


@pytest.mark.slow
def test_cut_files_are_refused_in_one_line(tmp_path):
    """In processes of their own: what maps a file is killed where its end is missing."""
    paths = []
    for ending in ENDINGS:
        whole = tmp_path / f"whole{ending}"
        write_frames(FrameSet(list(mixed_frames()) * 30), whole)
        for percent in (0, 2, 50, 98):
            paths.append(tmp_path / f"cut-{percent}{ending}")
            paths[-1].write_bytes(whole.read_bytes()[: percent * whole.stat().st_size // 100])
    done = subprocess.run([sys.executable, "-c", READ_EACH, *paths], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"{path}: ")


@pytest.mark.parametrize("ending", ENDINGS)
def test_absurd_labels_are_refused_when_their_frame_is_read(tmp_path, ending):
    good, forces = frame("H2O", labeled=True), np.full((3, 3), 1e5)
    bad = Frame(good.species, good.positions, 0.0, forces)
    write_frames(FrameSet([good, bad, good]), tmp_path / f"a{ending}")
    frames = read_frames(tmp_path / f"a{ending}")
    assert frames[2].has_forces
    with pytest.raises(DataError, match="frame 1: forces reaches"):
        frames[1]


def test_a_damaged_entry_names_its_frame(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    write_frames(mixed_frames(), tmp_path / "a.aselmdb")
    environment = lmdb.open(str(tmp_path / "a.aselmdb"), subdir=False, lock=False, map_size=1 << 24)
    with environment as file, file.begin(write=True) as transaction:
        transaction.put(b"3", b"no row")
    with pytest.raises(DataError, match="frame 2: cannot be read"):
        list(read_frames(tmp_path / "a.aselmdb"))


def damage_chunk(path, name, number):
    with h5py.File(path) as file:
        chunk = file[name].id.get_chunk_info(number)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"x" * chunk.size)


@pytest.mark.parametrize("layout", ["ani", "packed"])
def test_a_damaged_block_is_met_by_every_way_of_reading(tmp_path, layout):
    """Of compressed arrays: HDF5 notices damage of what it must unpack."""
    path = tmp_path / "a.h5"
    if layout == "ani":
        write_ani(path)
        damage_chunk(path, "H2O/wb97x_dz.forces", 0)
    else:
        write_frames(mixed_frames(), path)
        with h5py.File(path, "a") as file:
            energy, unit = file["energy"][:], file["energy"].attrs["unit"]
            del file["energy"]
            file.create_dataset("energy", data=energy, chunks=(2,), compression="gzip").attrs["unit"] = unit
        damage_chunk(path, "energy", 2)
    frames = read_frames(path)
    assert frames[0].has_forces
    for reading in (lambda: frames[4], lambda: list(frames), lambda: frames.census):
        with pytest.raises(DataError, match="cannot be read, the file is damaged") as error:
            reading()
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12: what this test is about
def test_what_is_open_is_opened_once_and_again_in_a_fork():
    opened, closed = [], []

    def open_():
        opened.append(os.getpid())
        return os.getpid()

    handle = PerProcess(open_, closed.append)
    assert [handle(), handle()] == [os.getpid()] * 2
    context = get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(([handle(), handle()], opened, closed)))
    child.start()
    child.join()
    assert answers.get() == ([child.pid] * 2, [os.getpid(), child.pid], [os.getpid()])
    assert (opened, closed) == ([os.getpid()], [])
    handle.close()
    assert closed == [os.getpid()]


def change(file, name, values):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.attrs.__setitem__("version", 7), "packed format 7"),
        (lambda file: file.__delitem__("stress"), "this packed file lacks stress"),
        (lambda file: change(file, "energy", np.zeros(3)), "energy has shape"),
        (lambda file: change(file, "positions", np.zeros((45, 2))), "positions has shape"),
        (lambda file: change(file, "offsets", np.array([0, 3, 12, 12, 27, 33, 39, 45])), "do not increase"),
        (lambda file: change(file, "offsets", np.array([0, 3, 12, 15, 27, 33, 39, 44])), "has shape"),
        (lambda file: change(file, "species", np.zeros(45, dtype="u1")), "atomic number"),
        (lambda file: change(file, "species", np.full(45, 6.5)), "species are not integers, but float64"),
        (lambda file: change(file, "positions", np.full((45, 3), np.nan)), "position is not a finite"),
    ],
)
def test_packed_files_that_do_not_fit_together(tmp_path, damage, message):
    write_frames(mixed_frames(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        damage(file)
    with pytest.raises(DataError, match=message) as error:
        read_frames(tmp_path / "a.h5")
    assert "\n" not in str(error.value)
