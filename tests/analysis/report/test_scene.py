import base64
import zlib

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses
from scipy.spatial.transform import Rotation

from piwsl.analysis.compare_run import compare_run
from piwsl.analysis.reference import Reference
from piwsl.analysis.report.scene import PRECISION, picture_svg, scene_of, superposed
from piwsl.analysis.run_directory import read_run
from piwsl.trajectories.frame_source import FrameSource
from tests.support import made_up
from tests.support import run_directories as runs


def decoded(scene):
    steps = np.frombuffer(zlib.decompress(base64.b64decode(scene.encoded())), dtype="<i2")
    steps = steps.reshape(scene.positions.shape)
    return PRECISION * np.cumsum(steps, axis=0, dtype=np.int16)


def distances(positions):
    return np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)


@pytest.fixture(scope="module")
def stable(tmp_path_factory):
    return made_up.comparison(tmp_path_factory.mktemp("scene") / "run", runs.shaking(1000, seed=1))


def test_frames_are_those_of_the_run(stable):
    scene = scene_of(stable, "mine")
    assert len(scene.times) == len(scene.positions) == 200
    assert (scene.times[0], scene.times[-1]) == (50.0, 50_000.0)
    assert scene.end is None
    chosen = np.searchsorted(stable.run.times, scene.times)
    np.testing.assert_allclose(distances(scene.positions), distances(stable.run.frames.at(chosen)), atol=1e-3)
    assert len(scene.bonds) == 8
    assert scene.symbols[:3] == ["C", "C", "O"]


def test_precision_of_the_encoding(stable):
    scene = scene_of(stable, "mine")
    np.testing.assert_allclose(decoded(scene), scene.positions, atol=PRECISION / 2 + 1e-9)
    assert len(scene.encoded()) < 200 * 9 * 3 * 2 * 4 / 3


def test_fewer_frames_of_large_systems(stable):
    assert len(scene_of(stable, "mine", numbers=27 * 13 + 5).times) == 13
    assert scene_of(stable, "mine", numbers=20) is None


@pytest.mark.parametrize("seed", range(6))
def test_superposition_undoes_rotation_and_keeps_hands(seed):
    random = np.random.default_rng(seed)
    shape = random.normal(size=(7, 3)) * [3, 2, 1]
    turns = np.linalg.qr(random.normal(size=(20, 3, 3)))[0]
    turns *= np.linalg.det(turns)[:, None, None]
    frames = shape @ turns + random.normal(size=(20, 1, 3))
    weights = atomic_masses[[6, 6, 8, 1, 1, 1, 1]]
    found = superposed(frames, weights)
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.det(found[0, :3] - found[0, 3]), np.linalg.det(shape[:3] - shape[3]), atol=1e-9
    )
    spread = np.ptp(found[0], axis=0)
    assert spread[0] > spread[2]
    # A mirror image is another molecule: it is not turned into the first.
    assert np.abs(superposed(np.stack([shape, shape * [1, 1, -1]]), weights)[1] - found[0]).max() > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_superposition_is_the_best_one(seed):
    """Against the rotation that scipy finds, for shapes that are not alike."""
    random = np.random.default_rng(seed)
    frames, weights = random.normal(size=(5, 6, 3)), np.arange(1.0, 7.0)
    found = superposed(frames, weights)
    share = weights / weights.sum()
    for frame, turned in zip(frames, found, strict=True):
        centered = frame - share @ frame
        _, deviation = Rotation.align_vectors(found[0], centered, weights)
        assert np.sqrt((weights[:, None] * (turned - found[0]) ** 2).sum()) == pytest.approx(deviation, abs=1e-6)


def test_the_broken_frame_is_among_them(tmp_path):
    positions = runs.shaking(1000, seed=2)
    positions[777:, 8] += 4
    positions[900] = np.nan
    found = made_up.comparison(tmp_path / "run", positions)
    scene = scene_of(found, "mine")
    assert scene.end == found.stable_time.value == 50.0 * 778
    assert scene.end in scene.times
    assert np.isfinite(scene.positions).all()


def test_torn_apart_from_the_start(tmp_path):
    scene = scene_of(made_up.comparison(tmp_path / "run", 400 * runs.shaking(3, seed=4)), "mine")
    assert len(scene.bonds) == 0
    np.testing.assert_allclose(decoded(scene), np.clip(scene.positions, -327.67, 327.67), atol=PRECISION)
    assert np.abs(scene.positions).max() > 327.67
    assert picture_svg(scene).count("<circle") == 9


def test_still_picture(stable):
    picture = picture_svg(scene_of(stable, "mine"))
    assert picture.count("<circle") == 9
    assert picture.count("<line") == 8
    drawn = np.array([[float(text.split('"')[1]), float(text.split('"')[3])] for text in picture.split("<circle")[1:]])
    assert (drawn > 0).all()
    assert (drawn < [820, 420]).all()
    # Seen as it lies, in one scale: the atoms farthest away come first, so they are matched by what they are seen as.
    positions = scene_of(stable, "mine").positions[0]
    order = np.argsort(positions[:, 2])
    scale = np.ptp(drawn[:, 1]) / np.ptp(positions[:, 1])
    expected = scale * positions[order][:, :2] * [1, -1]
    np.testing.assert_allclose(drawn - drawn.mean(axis=0), expected - expected.mean(axis=0), atol=1.0)


def test_a_crystal_keeps_its_place_in_its_cell(tmp_path):
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    rng = np.random.default_rng(1)
    positions = salt.positions + rng.normal(scale=0.05, size=(60, 8, 3)) + np.linspace(0, 9, 60)[:, None, None]
    cells = np.repeat(salt.cell.array[None], 60, axis=0)
    wrapped = positions - np.floor(positions / 5.64) * 5.64
    path = runs.write_run(tmp_path / "run", wrapped, salt.numbers, cells=cells)
    reference = Reference("mine", FrameSource.of_array(salt.numbers, positions, cells=cells))
    scene = scene_of(compare_run(read_run(path), reference), "mine")
    assert np.allclose(np.linalg.norm(scene.edges[:, 1] - scene.edges[:, 0], axis=1), 5.64, atol=1e-4)
    assert len({tuple(np.round(end, 3)) for end in scene.edges.reshape(-1, 3)}) == 8
    # No jumps, no drift, and as far from each other as they are.
    assert np.abs(np.diff(scene.positions, axis=0)).max() < 0.6
    assert np.abs(scene.positions.mean(axis=0) - scene.positions[0]).max() < 0.3
    start = wrapped[0].astype(np.float32)
    np.testing.assert_allclose(distances(scene.positions[:1])[0], distances(start[None])[0], atol=1e-4)
    assert picture_svg(scene).count('stroke-width="1"/>') >= 12
    assert scene_of(made_up.comparison(tmp_path / "m", runs.shaking(20, seed=1)), "m").edges.shape == (0, 2, 3)
