"""Every native network in every form of export: whether it passes its verification, time to make, size.

python benchmarks/exported_forms.py prints a table; about an hour, since compiling takes long. Networks are small
(16 channels, 2 layers) and random, with conservative and, where there are such, direct forces; the last rows are an
ensemble of three.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from ase.build import molecule

from piwsl.data.frames import Frame
from piwsl.errors import PiwslError
from piwsl.export.exporter import Exporter, Format
from piwsl.export.trained_file import TrainedModel, save_trained
from piwsl.models import ModelConfig, build_network

ENERGIES = {1: -13.6, 6: -1030.0, 8: -2042.0}
FORMATS: dict[Format, str] = {"torchscript": ".pt", "aotinductor": ".pt2"}
KINDS = [("painn", "conservative"), ("painn", "direct"), ("schnet", "conservative"), ("tensornet", "conservative")]
KINDS += [("ace", "conservative")]
KINDS += [(name, forces) for name in ("escn", "equiformer_v2", "spinconv") for forces in ("conservative", "direct")]


def trained(path: Path, network: str, forces: str, seed: int = 0) -> Path:
    """Make a trained file with random weights, and with ethanol and water to verify exports."""
    torch.manual_seed(seed)
    config = ModelConfig(network=network, forces=forces, channels=16, layers=2, cutoff=4.0)
    frames = []
    for name in ("CH3CH2OH", "H2O"):
        atoms = molecule(name)
        atoms.rattle(0.05, seed=seed)
        frames.append(Frame.from_atoms(atoms))
    weights = build_network(config).state_dict()
    save_trained(TrainedModel(config, ENERGIES, 1.0, "float32", weights, frames), path)
    return path


def main() -> None:
    torch.set_num_threads(1)
    ethanol = Frame.from_atoms(molecule("CH3CH2OH"))
    print(f"{'':46}seconds     MB   energy, eV/atom   forces, eV/A")
    with TemporaryDirectory() as name:
        folder = Path(name)
        models = {f"{one}, {forces}": [trained(folder / f"{one}-{forces}.pt", one, forces)] for one, forces in KINDS}
        models["ensemble of three painn"] = [
            trained(folder / f"member-{seed}.pt", "painn", "conservative", seed) for seed in range(3)
        ]
        for label, paths in models.items():
            for form, suffix in FORMATS.items():
                for target in ("general", "openmm"):
                    output, start = folder / f"made{suffix}", time.perf_counter()
                    row = f"{label:27}{form:12}{target:8}"
                    try:
                        exporter = Exporter(paths)
                        if target == "general":
                            result = exporter.general(output, form)
                        else:
                            result = exporter.openmm(ethanol, output, form)
                    except PiwslError as error:
                        print(f"{row} refused: {error}", flush=True)
                        continue
                    size = output.stat().st_size / 2**20
                    print(
                        f"{row}{time.perf_counter() - start:6.1f}{size:7.1f}{result.energy_per_atom:18.1e}"
                        f"{result.force:15.1e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
