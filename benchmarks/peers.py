"""Speed of piwsl beside the programs that users would choose instead.

python benchmarks/peers.py prints tables and a JSON line; about three quarters of an hour, and some more the first
time, to install each program in an environment of its own and to compile models. All models have random weights,
float32 and a cutoff of 5 angstrom. The molecule is aspirin.

A comparison consists of a model of another program and a model of piwsl. The architecture and its sizes are the same,
except where the name of the comparison states "beside": there, piwsl has no such network, and the model of the other
program is a yardstick of similar size. ANI has no counterpart. fairchem-core predicts forces with a force head, and so
does its counterpart. piwsl adds its ZBL repulsion, as by default, except to MACE. Two differences remain. In
TensorNet, the filters of piwsl are linear, while those of torchmd-net are small networks. In MACE, piwsl has weights
for the linearly independent products only: 13 instead of 28 for each element and scalar.

    md     A step of Langevin dynamics at 10 K with a step of 0.1 fs. Other programs run as their calculators in ASE,
           also compiled where they offer it. piwsl runs its exported files, TorchScript and AOTInductor, in ASE and in
           OpenMM (Reference platform).
    train  A step on energies and forces of five molecules: forward pass, loss, backward pass, AdamW. Other programs
           compute it with their model in a plain loop. Batches are built beforehand.

Each contestant is a process of its own. The contestants of a comparison take turns in a new order every round, so that
other load of the machine affects all. A ratio is the median of the ratios within a round: time over that of piwsl
(for md of its compiled file in ASE). With one thread, ratios are of CPU time, otherwise of wall time. A program that
cannot be installed or that fails is listed with the reason.

fairchem-core 1.10.0 imports torch_scatter, which contains compiled code, but eSCN and Equiformer v2 do not call it. An
empty module takes its place. The calculator of fairchem-core imports all its networks and cannot do without; a minimal
one calls the model.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from contestants import (
    HERE,
    KEEP_FREED_MEMORY,
    SCHNETPACK,
    Contestant,
    ContestantError,
    InstallationError,
    peer_python,
)
from race import Times, default_cache, processor, race, rounded
from random_model import random_model
from training_throughput import write_frames

from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.errors import PiwslError
from piwsl.export.exporter import Exporter

BATCH = 5
PACKAGES = {
    "schnetpack": SCHNETPACK,
    "mace-torch": "mace-torch==0.3.16",
    "torchmd-net": "torchmd-net==3.1.0",
    "nequip": "nequip==0.19.1",
    "torchani": "torchani==2.9.0",
    "fairchem-core": "fairchem-core==1.10.0",
}
# Forms of the calculators in ASE.
FORMS = {
    "mace-torch": ("plain", "compiled"),
    "torchmd-net": ("plain", "compiled"),
    "nequip": ("plain", "compiled"),
    "torchani": ("plain", "TorchScript"),
}
# Forms of an exported file: name, argument of piwsl_md_step.py, and file.
EXPORTED = (
    ("TorchScript, ASE", "ase", "model.pt"),
    ("TorchScript, OpenMM", "torch", "model.pt"),
    ("compiled, ASE", "ase", "model.pt2"),
    ("compiled, OpenMM", "python", "model.pt2"),
)
# Ratios refer to the first of these that ran.
REFERENCES = ("piwsl compiled, ASE", "piwsl TorchScript, ASE", "piwsl")


@dataclass(frozen=True)
class Comparison:
    """A model of another program and one of piwsl.

    Attributes:
        name: heading in the table.
        peer: the other program, a key of `PACKAGES`.
        theirs: arguments of its class in peers_models.py. SchNetPack has scripts of its own with this size.
        ours: section ``model`` of piwsl; None without a counterpart.
        theirs_in_training: other arguments for training.
    """

    name: str
    peer: str
    theirs: dict[str, Any]
    ours: dict[str, Any] | None
    theirs_in_training: dict[str, Any] | None = None


def _mace(channels: int, degrees: int, l_max: int) -> tuple[dict[str, Any], dict[str, Any]]:
    hidden = "+".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(degrees + 1))
    ours = {"network": "mace", "elements": [1, 6, 8], "channels": channels, "hidden_degrees": list(range(degrees + 1))}
    return {"hidden": hidden, "l_max": l_max}, {**ours, "largest_degree": l_max, "correlations": [3, 3]}


SPHERE = {"channels": 64, "layers": 2, "l_max": 4, "m_max": 2, "radial_size": 50, "radial": "gaussian", "chiral": True}
HEADS = {"heads": 4, "hidden": 32, "alpha_channels": 32, "value_channels": 16, "feed_forward": 64, "edge_channels": 64}
BASE = {"num_layers": 2, "lmax_list": [4], "mmax_list": [2], "sphere_channels": 64, "edge_channels": 64}
ESCN = {**BASE, "cutoff": 5.0, "hidden_channels": 128, "distance_resolution": 0.1}
EQUIFORMER = {
    **BASE,
    "max_radius": 5.0,
    "num_distance_basis": 50,
    "num_heads": 4,
    "attn_hidden_channels": 32,
    "attn_alpha_channels": 32,
    "attn_value_channels": 16,
    "ffn_hidden_channels": 64,
    "alpha_drop": 0.0,
    "drop_path_rate": 0.0,
}
COMPARISONS = (
    Comparison(
        "PaiNN, 128 channels, 3 layers",
        "schnetpack",
        {},
        {"network": "painn", "channels": 128, "layers": 3, "radial_size": 20},
    ),
    Comparison("MACE, 96 scalars, l_max 3", "mace-torch", *_mace(96, 0, 3)),
    Comparison("MACE, 64 channels up to l = 1, l_max 3", "mace-torch", *_mace(64, 1, 3)),
    Comparison(
        "TensorNet, 128 channels, 2 layers",
        "torchmd-net",
        {"channels": 128, "layers": 2, "radial_size": 20},
        {"network": "tensornet", "channels": 128, "layers": 2, "radial_size": 20},
    ),
    Comparison(
        "NequIP beside eSCN, 64 channels, l_max 2, 2 layers",
        "nequip",
        {"features": 64, "l_max": 2, "layers": 2},
        {"network": "escn", "channels": 64, "l_max": 2, "layers": 2},
    ),
    Comparison(
        "MACE up to l = 2 beside Equiformer v2, 64 channels, l_max 2, 2 layers",
        "mace-torch",
        _mace(64, 2, 2)[0],
        {"network": "equiformer_v2", "channels": 64, "l_max": 2, "layers": 2},
    ),
    Comparison("ANI-2x: 8 networks (md), 1 (train)", "torchani", {"members": 8}, None, {"members": 1}),
    Comparison(
        "eSCN with force head, 64 channels, l_max 4, 2 layers",
        "fairchem-core",
        {"network": "escn", "arguments": ESCN},
        {"network": "escn", "forces": "direct", "hidden": 128, **SPHERE},
    ),
    Comparison(
        "Equiformer v2 with force head, 64 channels, l_max 4, 2 layers",
        "fairchem-core",
        {"network": "equiformer_v2", "arguments": EQUIFORMER},
        {"network": "equiformer_v2", "forces": "direct", **SPHERE, **HEADS},
    ),
)

Failed = Callable[[str, str], None]
"""Called with the name and the reason of what cannot run."""


def other(comparison: Comparison, what: str, python: Path, folder: Path, cache: Path) -> list[Contestant]:
    """Return the contestants of the other program."""
    peer, environment = comparison.peer, {"PYTHONPATH": "", "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    file = folder / ("aspirin.xyz" if what == "md" else "frames.npz")
    if peer == "schnetpack":
        script, more = ("schnetpack_md_step.py", []) if what == "md" else ("schnetpack_step.py", ["--labels=forces"])
        command = [str(python), str(HERE / script), str(file), *more]
        forms: tuple[str, ...] = ("plain",)
    else:
        sizes = comparison.theirs if what == "md" else comparison.theirs_in_training or comparison.theirs
        command = [str(python), str(HERE / "peers_step.py"), what, peer, json.dumps(sizes), str(file)]
        forms = FORMS.get(peer, ("plain",)) if what == "md" else ("plain",)
    if what == "train":
        return [Contestant(peer, "", [*command, f"--batch={BATCH}"], environment)]
    compiled = cache / "compiled"
    compiled.mkdir(parents=True, exist_ok=True)
    made = []
    for form in forms:
        more = [] if peer == "schnetpack" else [f"--form={form}", f"--folder={compiled}"]
        name = f"{peer}, ASE" if form == "plain" else f"{peer} {form}, ASE"
        made.append(Contestant(name, "", [*command, *more], environment))
    return made


def own(model: dict[str, Any], what: str, folder: Path, failed: Failed) -> tuple[list[Contestant], int | None]:
    """Return the contestants of piwsl and, for md, the number of weights; export the files for md."""
    if what == "train":
        overrides = [
            f"model.{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in model.items()
        ]
        program = [sys.executable, str(HERE / "piwsl_step.py"), f"optimizer.batch_size={BATCH}", *overrides]
        return [Contestant("piwsl", "", program, {})], None
    frame = Frame.from_atoms(named_system("aspirin").structure)
    weights = random_model(folder / "trained.pt", frame, **model)
    exporter = Exporter([folder / "trained.pt"])
    made = []
    for file in ("model.pt", "model.pt2"):
        (folder / file).unlink(missing_ok=True)
        try:
            exporter.openmm(frame, folder / file, "aotinductor" if file.endswith(".pt2") else "torchscript")
        except PiwslError as error:
            failed(f"piwsl, {file}", str(error))
    for name, how, file in EXPORTED:
        if (folder / file).is_file():
            command = [sys.executable, str(HERE / "piwsl_md_step.py"), how, str(folder / file)]
            made.append(Contestant(f"piwsl {name}", "", command, {}))
    return made, weights


def race_without_failures(
    contestants: list[Contestant], failed: Failed, threads: int, rounds: int, turn: float
) -> tuple[dict[str, Times], dict[str, dict[str, Any]]]:
    """Return times and facts of the contestants that run; repeat the race without those that fail."""
    left = list(contestants)
    while left:
        try:
            times, facts = race(left, threads, rounds, turn)
        except ContestantError as error:
            failed(error.key, error.reason)
            left = [contestant for contestant in left if contestant.key != error.key]
            continue
        return times, {contestant.key: fact for contestant, fact in zip(left, facts, strict=True)}
    return {}, {}


def rows_of(times: dict[str, Times], weights: dict[str, int | None], clock: str) -> dict[str, dict[str, float | None]]:
    """Return the figures of each contestant."""
    reference = next((times[name] for name in REFERENCES if name in times), None)
    return {
        name: {
            "ms": 1e3 * median(own_times.wall),
            "ms_min": 1e3 * min(own_times.wall),
            "cpu_ms": 1e3 * median(own_times.cpu),
            "ratio": own_times.cost(reference, clock) if reference else None,
            "weights": weights.get(name),
            "peak_mb": own_times.peak_mb,
        }
        for name, own_times in times.items()
    }


def show(name: str, rows: dict[str, dict[str, float | None]]) -> None:
    """Print the rows of a comparison."""
    print(f"\n{name}")
    for contestant, row in rows.items():
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        weights = "-" if row["weights"] is None else f"{row['weights']:.0f}"
        print(
            f"  {contestant:30}{row['ms']:10.2f}{row['ms_min']:10.2f}{row['cpu_ms']:9.2f}{ratio:>9}{weights:>10}"
            f"{row['peak_mb']:9.0f}"
        )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    cache = default_cache()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=list(PACKAGES), default=list(PACKAGES), help="programs (all)")
    parser.add_argument("--what", nargs="+", choices=["md", "train"], default=["md", "train"], help="steps (both)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant (9)")
    parser.add_argument("--turn", type=float, default=2.0, help="seconds of a turn, about (2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each contestant (1)")
    parser.add_argument("--cache", type=Path, default=cache, help=f"folder of the environments ({cache})")
    parser.add_argument("--keep-memory", action="store_true", help="other programs keep freed memory, as piwsl does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON object to a file as well")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # each row as soon as it is known
    cache = options.cache.resolve()
    failures: dict[str, str] = {}
    pythons: dict[str, Path] = {}
    for peer in options.peers:
        try:
            pythons[peer] = peer_python(PACKAGES[peer], cache)
        except InstallationError as error:
            failures[PACKAGES[peer]] = f"not installed: {error}"
            print(f"{PACKAGES[peer]} not installed: {error}", file=sys.stderr)
    results: dict[str, Any] = {"processor": processor(), "cpus": os.cpu_count(), "threads": options.threads}
    results |= {"keep_memory": options.keep_memory, "load_before": os.getloadavg()[0]}
    clock = "cpu" if options.threads == 1 else "wall"
    with TemporaryDirectory() as name:
        folder = Path(name)
        named_system("aspirin").structure.write(folder / "aspirin.xyz")
        write_frames(folder / "frames.npz")
        for what in options.what:
            title = "a step of dynamics" if what == "md" else f"a training step of {BATCH} molecules"
            print(
                f"\n{title}, aspirin, float32; {options.threads} thread(s), {options.rounds} rounds, ratios by {clock}"
            )
            print(f"{'':32}{'ms/step':>10}{'fastest':>10}{'CPU ms':>9}{'ratio':>9}{'weights':>10}{'peak MB':>9}")
            results[what] = {}
            for comparison in COMPARISONS:
                if comparison.peer not in pythons:
                    continue

                def failed(name: str, reason: str, heading: str = f"{what}, {comparison.name}") -> None:
                    failures[f"{heading}: {name}"] = reason
                    print(f"{heading}: {name} left out: {reason}", file=sys.stderr)

                contestants = other(comparison, what, pythons[comparison.peer], folder, cache)
                weights: dict[str, int | None] = {}
                if comparison.ours is not None:
                    ours, count = own(comparison.ours, what, folder, failed)
                    weights = {contestant.key: count for contestant in ours}
                else:
                    ours = []
                if options.keep_memory:
                    for contestant in contestants:
                        contestant.environment.update(KEEP_FREED_MEMORY)
                arguments = options.threads, options.rounds, options.turn
                times, facts = race_without_failures([*contestants, *ours], failed, *arguments)
                for key, fact in facts.items():
                    weights[key] = weights.get(key) or fact.get("parameters")
                rows = rows_of(times, weights, clock)
                show(comparison.name, rows)
                results[what][comparison.name] = rows
    if failures:
        print("\nnot measured:")
    for failure, reason in failures.items():
        print(f"  {failure}: {reason}")
    results |= {"failures": failures, "load_after": os.getloadavg()[0]}
    text = json.dumps(rounded(results))
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
