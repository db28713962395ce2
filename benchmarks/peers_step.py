"""Side of another program in peers.py: a step of dynamics or of training, in the environment of that program.

python benchmarks/peers_step.py md|train PEER SIZES FILE [--form FORM] [--folder FOLDER] [--batch 5]

SIZES is a JSON object with the arguments of the class below. FILE contains the molecule (md) or the frames (train) that
peers.py writes. If the program fails, the first answer contains the reason.
"""

import argparse
import contextlib
import hashlib
import json
import logging
import os
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ase
import numpy as np
import torch
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.md.langevin import Langevin
from step_server import serve

CUTOFF = 5.0  # angstrom
ELEMENTS = ["H", "C", "O"]
NUMBERS = [1, 6, 8]
NEIGHBORS = 14.0  # of an atom of aspirin, on average
WARM_UP = 3  # steps before the first answer; they also compile


class Peer(Protocol):
    """A model of another program.

    Attributes:
        model: the model, with random weights.
    """

    model: Any

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        """Return the calculator of the program; ``folder`` keeps compiled files."""

    def batch(self, frames: list[ase.Atoms]) -> Any:
        """Return some structures as input of the model."""

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energies (S,) and forces (N, 3) that a loss can be differentiated through."""


class _Mace:
    """MACE of mace-torch."""

    def __init__(self, form: str, hidden: str, l_max: int, layers: int = 2, correlation: int = 3) -> None:
        from e3nn import o3
        from mace import modules
        from mace.tools.utils import AtomicNumberTable

        interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        self.table = AtomicNumberTable(NUMBERS)
        self.form = form
        self.model = modules.ScaleShiftMACE(
            r_max=CUTOFF,
            num_bessel=8,
            num_polynomial_cutoff=6,
            max_ell=l_max,
            interaction_cls=interaction,
            interaction_cls_first=interaction,
            num_interactions=layers,
            num_elements=len(NUMBERS),
            hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("16x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(len(NUMBERS)),
            avg_num_neighbors=NEIGHBORS,
            atomic_numbers=NUMBERS,
            correlation=correlation,
            radial_type="bessel",
            radial_MLP=[64, 64, 64],
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        from mace.calculators import MACECalculator

        mode = "default" if self.form == "compiled" else None
        return MACECalculator(models=[self.model], device="cpu", default_dtype="float32", compile_mode=mode)

    def batch(self, frames: list[ase.Atoms]) -> Any:
        from mace import data
        from mace.tools.torch_geometric.batch import Batch

        configurations = [data.config_from_atoms(atoms) for atoms in frames]
        items = [data.AtomicData.from_config(one, z_table=self.table, cutoff=CUTOFF) for one in configurations]
        return Batch.from_data_list(items).to_dict()

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        results = self.model(batch, training=True)
        return results["energy"], results["forces"]


class _NequIP:
    """NequIP of nequip; its compiler reads a checkpoint."""

    def __init__(self, form: str, features: int, l_max: int, layers: int) -> None:
        from nequip.train import NequIPLightningModule
        from nequip.utils.global_state import set_global_state

        set_global_state()
        self.form = form
        config = {
            "_target_": "nequip.model.NequIPGNNModel",
            "seed": 0,
            "model_dtype": "float32",
            "type_names": ELEMENTS,
            "r_max": CUTOFF,
            "l_max": l_max,
            "parity": False,
            "num_layers": layers,
            "num_features": features,
            "avg_num_neighbors": NEIGHBORS,
        }
        self.module = NequIPLightningModule(config, {"train": 1, "val": 0, "test": 0}, info_dict=self.information())
        self.model = self.module.model["sole_model"]

    def information(self) -> dict[str, Any]:
        from nequip.utils import get_current_code_versions

        return {
            "versions": get_current_code_versions(verbose=False),
            "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
        }

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        from nequip.integrations.ase import NequIPCalculator

        if self.form == "plain":
            self.model.eval()
            return NequIPCalculator(self.model, "cpu", transforms=self.transforms())
        name = hashlib.sha256(repr(self.model).encode() + torch.__version__.encode()).hexdigest()[:16]
        file = folder / f"{name}.nequip.pt2"
        if not file.is_file():
            self.compile(atoms, file)
        return NequIPCalculator.from_compiled_model(str(file), device="cpu")

    def compile(self, atoms: ase.Atoms, file: Path) -> None:
        import lightning
        from nequip.scripts import compile as compiler

        unfinished = file.with_name(f"unfinished-{os.getpid()}.nequip.pt2")
        checkpoint, inputs = unfinished.with_suffix(".ckpt"), unfinished.with_suffix(".inputs.pt")
        trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(self.module)
        trainer.save_checkpoint(checkpoint)
        example = torch.nn.Module()
        boxed = ase.Atoms(atoms.numbers, atoms.positions, cell=3 * [50.0], pbc=True)  # for the stress of the example
        for key, value in self.data(boxed).items():
            example.register_buffer(key, value)
        torch.jit.script(example).save(str(inputs))
        arguments = [str(checkpoint), str(unfinished), "--mode=aotinductor", "--device=cpu", "--target=ase"]
        compiler.main([*arguments, f"--data-path={inputs}"])
        unfinished.replace(file)
        checkpoint.unlink()
        inputs.unlink()

    def transforms(self) -> list[Callable[[Any], Any]]:
        from nequip.data import transforms

        return [
            transforms.ChemicalSpeciesToAtomTypeMapper(ELEMENTS),
            transforms.NeighborListTransform(r_max=CUTOFF),
        ]

    def data(self, atoms: ase.Atoms) -> dict[str, torch.Tensor]:
        from nequip.data import from_ase

        data = from_ase(atoms)
        for transform in self.transforms():
            data = transform(data)
        return data

    def batch(self, frames: list[ase.Atoms]) -> Any:
        from nequip.data import AtomicDataDict

        return AtomicDataDict.batched_from_list([self.data(atoms) for atoms in frames])

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        results = self.model(batch)
        return results["total_energy"][:, 0], results["forces"]


class _TorchMDNet:
    """TensorNet of torchmd-net."""

    def __init__(self, form: str, channels: int, layers: int, radial_size: int) -> None:
        from torchmdnet.models.model import create_model

        self.form = form
        self.arguments: dict[str, Any] = {
            "model": "tensornet",
            "embedding_dimension": channels,
            "num_layers": layers,
            "num_rbf": radial_size,
            "rbf_type": "expnorm",
            "trainable_rbf": False,
            "activation": "silu",
            "cutoff_lower": 0.0,
            "cutoff_upper": CUTOFF,
            "max_z": 128,
            "max_num_neighbors": 64,
            "equivariance_invariance_group": "O(3)",
            "atom_filter": -1,
            "prior_model": None,
            "output_model": "Scalar",
            "reduce_op": "sum",
            "derivative": True,
            "precision": 32,
        }
        self.model = create_model(self.arguments)

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        from torchmdnet.calculators import TMDNETCalculator

        file = folder / f"torchmdnet-{os.getpid()}.ckpt"
        weights = {f"model.{name}": weight for name, weight in self.model.state_dict().items()}
        torch.save({"hyper_parameters": self.arguments, "state_dict": weights}, file)
        atoms.info["charge"] = 0
        made = TMDNETCalculator(str(file), compile=self.form == "compiled")
        file.unlink()
        return made

    def batch(self, frames: list[ase.Atoms]) -> Any:
        return {
            "z": torch.tensor(np.concatenate([atoms.numbers for atoms in frames])),
            "pos": torch.tensor(np.concatenate([atoms.positions for atoms in frames]), dtype=torch.float32),
            "batch": torch.repeat_interleave(torch.tensor([len(atoms) for atoms in frames])),
        }

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        energies, forces = self.model(**batch)
        return energies[:, 0], forces


class _TorchANI:
    """ANI-2x of torchani with random weights."""

    def __init__(self, form: str, members: int) -> None:
        from torchani.arch import Assembler
        from torchani.constants import PERIODIC_TABLE

        self.form = form
        assembler = Assembler(periodic_table_index=True)
        assembler.set_symbols([PERIODIC_TABLE[number] for number in (1, 6, 7, 8, 16, 9, 17)])
        assembler.set_global_cutoff_fn("cosine")
        assembler.set_aev_computer(radial="ani2x", angular="ani2x", strategy="pyaev")
        assembler.set_atomic_networks(ctor="ani2x")
        assembler.set_neighborlist("all_pairs")
        assembler.set_zeros_as_self_energies()
        self.model = assembler.assemble(members).to(torch.float32)

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        self.model.requires_grad_(False)
        if self.form == "plain":
            return self.model.ase()
        return self.model.to_infer_model().ase(jit=True)

    def batch(self, frames: list[ase.Atoms]) -> Any:
        positions = torch.tensor(np.stack([atoms.positions for atoms in frames]), dtype=torch.float32)
        return torch.tensor(np.stack([atoms.numbers for atoms in frames])), positions.requires_grad_()

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        energies = self.model(batch).energies * units.Hartree
        (gradient,) = torch.autograd.grad(energies.sum(), batch[1], create_graph=True)
        return energies, -gradient.reshape(-1, 3)


class _FAIRChem:
    """Networks of fairchem-core with a force head.

    The calculator of the program imports all its networks, some of which need compiled extensions. `_ModelCalculator`
    therefore calls the model.
    """

    def __init__(self, form: str, network: str, arguments: dict[str, Any]) -> None:
        stand_in = types.ModuleType("torch_scatter")  # imported, but called by neither network
        stand_in.scatter = None  # type: ignore[attr-defined]
        sys.modules.setdefault("torch_scatter", stand_in)
        from fairchem.core.models.equiformer_v2.equiformer_v2_deprecated import EquiformerV2
        from fairchem.core.models.escn.escn import eSCN

        kind = {"escn": eSCN, "equiformer_v2": EquiformerV2}[network]
        self.model = kind(use_pbc=True, otf_graph=True, regress_forces=True, max_neighbors=100, **arguments)

    def calculator(self, atoms: ase.Atoms, folder: Path) -> Calculator:
        return _ModelCalculator(self)

    def batch(self, frames: list[ase.Atoms]) -> Any:
        from torch_geometric.data import Batch, Data

        items = [
            Data(
                pos=torch.tensor(atoms.positions, dtype=torch.float32),
                atomic_numbers=torch.tensor(atoms.numbers),
                natoms=len(atoms),
                cell=100.0 * torch.eye(3)[None],
                pbc=torch.zeros(1, 3, dtype=torch.bool),
            )
            for atoms in frames
        ]
        return Batch.from_data_list(items)

    def predict(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        results = self.model(batch)
        return results["energy"].reshape(-1), results["forces"]


class _ModelCalculator(Calculator):
    """Calls a network that predicts forces."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, peer: _FAIRChem) -> None:
        super().__init__()
        self.peer = peer
        peer.model.eval()

    def calculate(
        self, atoms: ase.Atoms | None = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        with torch.no_grad():  # in vain for eSCN, which switches gradients on
            energy, forces = self.peer.predict(self.peer.batch([self.atoms]))
        self.results = {"energy": float(energy), "forces": forces.detach().numpy()}


PEERS: dict[str, Callable[..., Peer]] = {
    "mace-torch": _Mace,
    "nequip": _NequIP,
    "torchmd-net": _TorchMDNet,
    "torchani": _TorchANI,
    "fairchem-core": _FAIRChem,
}


def dynamics_step(peer: Peer, file: Path, folder: Path) -> Callable[[int], float]:
    """Return a step of Langevin dynamics in ASE, as in piwsl_md_step.py."""
    atoms = read(file)
    assert isinstance(atoms, ase.Atoms)
    atoms.calc = peer.calculator(atoms, folder)
    dynamics = Langevin(atoms, 0.1 * units.fs, temperature_K=10, friction=0.005 / units.fs, fixcm=False)

    def step(number: int) -> float:
        dynamics.run(1)
        return float(atoms.calc.results["forces"].sum())

    return step


def training_step(peer: Peer, file: Path, size: int) -> Callable[[int], float]:
    """Return a training step with the loss and the optimizer of schnetpack_step.py; batches are built beforehand."""
    with np.load(file) as arrays:
        species, positions, energies, forces = (arrays[key] for key in ("species", "positions", "energies", "forces"))
    frames = [ase.Atoms(species, one) for one in positions]
    energies = torch.tensor(energies - energies.mean(), dtype=torch.float32)
    forces = torch.tensor(forces, dtype=torch.float32)
    starts = range(0, len(frames) - size + 1, size)
    batches = [peer.batch(frames[start : start + size]) for start in starts]
    peer.model.train()
    weights = [weight for weight in peer.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0, amsgrad=True)

    def step(number: int) -> float:
        index = number % len(batches)
        labeled = slice(starts[index], starts[index] + size)
        batch = batches[index]
        energy, force = peer.predict(batch.copy() if isinstance(batch, dict) else batch)
        error = force - forces[labeled].reshape(-1, 3)
        loss = (energy - energies[labeled]).abs().mean() + 100.0 * torch.linalg.vector_norm(error, dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["md", "train"])
    parser.add_argument("peer", choices=list(PEERS))
    parser.add_argument("sizes", type=json.loads)
    parser.add_argument("file", type=Path)
    parser.add_argument("--form", default="plain")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--batch", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = (
        "1"  # e3nn 0.4 and mace-torch read their files as older PyTorch did
    )
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # only answers go to the output
            peer = PEERS[options.peer](options.form, **options.sizes)
            parameters = sum(weight.numel() for weight in peer.model.parameters() if weight.requires_grad)
            if options.what == "md":
                step = dynamics_step(peer, options.file, options.folder)
            else:
                step = training_step(peer, options.file, options.batch)
            for number in range(WARM_UP):
                step(number)
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(json.dumps({"error": f"{type(error).__name__}: {lines[0]}"}), flush=True)
        raise
    serve(step, {"library": options.peer, "parameters": parameters})


if __name__ == "__main__":
    main()
