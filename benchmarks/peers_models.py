"""The programs of peers_step.py: a model of each, its calculator in ASE, its batches and its predictions.

Each class imports its program when it is created, in the environment of that program.
"""

import hashlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import ase
import numpy as np
import torch
from ase import units
from ase.calculators.calculator import Calculator, all_changes

CUTOFF = 5.0  # angstrom
ELEMENTS = ["H", "C", "O"]
NUMBERS = [1, 6, 8]
NEIGHBORS = 14.0  # of an atom of aspirin, on average


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
