"""Reader for SO3LR in the file of so3krates-torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from piwsl.errors import ModelFileError
from piwsl.models.build import ModelConfig
from piwsl.models.foundation.description import FoundationModel, Origin
from piwsl.models.foundation.pickled import Name, Record, conversion_errors, read_pickled, shown, tensors_of
from piwsl.typing import MAX_ATOMIC_NUMBER

ROOT = "so3krates_torch.modules.models.SO3LR"
_PACKAGE = {
    "modules.models.SO3LR",
    "modules.cutoff.PhysNetCutoff",
    "modules.spherical_harmonics.RealSphericalHarmonics",
    "blocks.embedding.InvariantEmbedding",
    "blocks.embedding.ChargeSpinEmbedding",
    "blocks.embedding.EuclideanEmbedding",
    "blocks.radial_basis.ComputeRBF",
    "blocks.radial_basis.BernsteinBasis",
    "blocks.euclidean_transformer.EuclideanTransformer",
    "blocks.euclidean_transformer.FilterNet",
    "blocks.euclidean_transformer.EuclideanAttentionBlock",
    "blocks.euclidean_transformer.InteractionBlock",
    "blocks.so3_conv_invariants.L0Contraction",
    "blocks.output_block.AtomicEnergyOutputHead",
    "blocks.output_block.PartialChargesOutputHead",
    "blocks.output_block.DipoleVecOutputHead",
    "blocks.output_block.HirshfeldOutputHead",
    "blocks.physical_potentials.ZBLRepulsion",
    "blocks.physical_potentials.ElectrostaticInteraction",
    "blocks.physical_potentials.DispersionInteraction",
}
_TORCH = {
    "container.ModuleList",
    "container.Sequential",
    "linear.Identity",
    "linear.Linear",
    "activation.SiLU",
    "normalization.LayerNorm",
    "sparse.Embedding",
}
KNOWN = {f"so3krates_torch.{name}" for name in _PACKAGE} | {f"torch.nn.modules.{name}" for name in _TORCH}

# Supported values of attributes.
_REQUIRED: dict[str, Any] = {
    "radial_basis_fn": "bernstein",
    "cutoff_fn_name": "phys",
    "activation_fn_name": "silu",
    "energy_activation_fn_name": "silu",
    "qk_non_linearity": "identity",
    "message_normalization": "avg_num_neighbors",
    "initialize_ev_to_zeros": True,
    "layer_normalization_1": True,
    "layer_normalization_2": True,
    "residual_mlp_1": True,
    "residual_mlp_2": False,
    "interaction_bias": True,
    "use_charge_embed": True,
    "use_spin_embed": True,
    "final_mlp_layers": 2,
    "zbl_repulsion_bool": True,
    "electrostatic_energy_bool": True,
    "dispersion_energy_bool": True,
    "energy_learn_atomic_type_shifts": True,
    "energy_learn_atomic_type_scales": True,
}
# Ranges that the authors use in simulations. The file does not define them.
_CUTOFF = 12.0
_DISPERSION_SWITCH = 2.0

_NOTES = (
    "trained mostly on forces: relative energies count, so refit the reference energies (start.reference_energies)",
)


def read_so3lr(
    path: Path, *, source: str, license: str, charge: int = 0, unpaired_electrons: int = 0
) -> FoundationModel:
    """Read SO3LR from a file that contains the whole model.

    Args:
        path: Path of the file, such as ``so3lr.model`` of so3krates-torch.
        source: Name of the file or package in the description of the model.
        license: License of the weights.
        charge: Total charge of each structure, e.
        unpaired_electrons: Number of unpaired electrons in each structure.

    Raises:
        ModelFileError: The file is damaged, is not an SO3LR model, or has an option that piwsl does not support.
    """
    return convert_so3lr(read_pickled(path, KNOWN), path, source, license, charge, unpaired_electrons)


def convert_so3lr(
    model: Record, path: Path, source: str, license: str, charge: int, unpaired_electrons: int
) -> FoundationModel:
    """Convert the record of a module. Arguments and errors are the same as for `read_so3lr`."""
    if model.name != ROOT:
        raise ModelFileError(f"{path}: contains {model.name}, not {ROOT}")
    with conversion_errors(path, "an SO3LR model"):
        return _converted_model(model, path, source, license, charge, unpaired_electrons)


def _converted_model(
    model: Record, path: Path, source: str, license: str, charge: int, unpaired_electrons: int
) -> FoundationModel:
    _check_options(model, path)
    if model.attribute("use_pme"):
        raise ModelFileError(f"{path}: option use_pme is True: piwsl supports only sums up to a cutoff")
    degrees = model.attribute("degrees")
    if degrees != list(range(1, len(degrees) + 1)):
        raise ModelFileError(f"{path}: degrees {shown(degrees)}: piwsl supports 1, 2, ... without gaps")
    config = ModelConfig(
        network="so3lr",
        cutoff=float(model.attribute("r_max_lr") or _CUTOFF),
        message_cutoff=float(model.attribute("r_max")),
        channels=int(model.attribute("num_features")),
        layers=int(model.attribute("num_layers")),
        heads=int(model.attribute("num_heads")),
        degrees=len(degrees),
        radial_size=int(model.attribute("num_radial_basis_fn")),
        neighbors=float(model.attribute("avg_num_neighbors")),
        charge_width=float(model.attribute("electrostatic_energy_scale")),
        damping=float(model.attribute("dispersion_energy_scale")),
        dispersion_switch=float(model.attribute("dispersion_energy_cutoff_lr_damping") or _DISPERSION_SWITCH),
        charge=charge,
        unpaired_electrons=unpaired_electrons,
    )
    tensors = tensors_of(model)
    elements = _elements(tensors)
    shifts = tensors["atomic_energy_output_block.energy_shifts"].to(torch.float64)
    dtype = str(tensors["inv_feature_embedding.embedding.weight"].dtype).removeprefix("torch.")
    return FoundationModel(
        config=config,
        tensors=_converted(tensors, config, path),
        reference_energies={number: float(shifts[number - 1]) for number in elements},
        origin=Origin(
            name="SO3LR",
            license=license,
            citation="A. Kabylda et al., J. Am. Chem. Soc. 147, 33723 (2025)",
            level="PBE0+MBD",
            source=source,
            notes=_NOTES,
        ),
        dtype=dtype,
    )


def _check_options(model: Record, path: Path) -> None:
    for name, expected in _REQUIRED.items():
        value = model.attribute(name)
        if isinstance(value, Name):
            value = value.name
        if value != expected:
            raise ModelFileError(f"{path}: option {name} is {shown(value)}: piwsl supports only {expected!r}")


def _elements(tensors: dict[str, Tensor]) -> list[int]:
    """Return the elements that the model was trained on. Their energy factors differ from the initial value of one."""
    factors = tensors["atomic_energy_output_block.energy_scales.weight"].flatten()
    trained = [number for number, factor in enumerate(factors.tolist(), start=1) if factor != 1.0]
    return [number for number in (trained or range(1, len(factors) + 1)) if number <= MAX_ATOMIC_NUMBER]


def _converted(tensors: dict[str, Tensor], config: ModelConfig, path: Path) -> dict[str, Tensor]:
    rest = dict(tensors)
    result: dict[str, Tensor] = {}

    def take(name: str) -> Tensor:
        try:
            return rest.pop(name)
        except KeyError:
            raise ModelFileError(f"{path}: has no tensor {name}: damaged, or of another version") from None

    def move(target: str, *names: str, change: Callable[..., Tensor] | None = None) -> None:
        values = [take(name) for name in names]
        result[target] = values[0] if change is None else change(*values)

    move("transformer.radial.decay", "radial_embedding.radial_basis_fn.gamma")
    move("transformer.radial.coefficients", "radial_embedding.radial_basis_fn.b")
    move("transformer.embedding.weight", "inv_feature_embedding.embedding.weight", change=_by_element)
    for ours, theirs in (("charge", "charge_embedding"), ("spin", "spin_embedding")):
        move(f"transformer.{ours}.query.weight", f"{theirs}.Wq.weight", change=_by_element)
        move(f"transformer.{ours}.key", f"{theirs}.Wk")
        move(f"transformer.{ours}.value", f"{theirs}.Wv")
        for place in (1, 3):
            move(f"transformer.{ours}.residual.{place}.weight", f"{theirs}.mlp.{place}.weight")
    for layer in range(config.options["layers"]):
        _move_layer(move, f"transformer.layers.{layer}", f"euclidean_transformers.{layer}")
    for part in ("weight", "bias"):
        move(f"energy.network.0.{part}", f"atomic_energy_output_block.layers.0.{part}")
        move(f"energy.network.2.{part}", f"atomic_energy_output_block.final_layer.{part}")
        for place in (0, 2):
            move(
                f"charges.network.{place}.{part}", f"partial_charges_output_block.transform_inv_features.{place}.{part}"
            )
            move(f"volumes.network.{place}.{part}", f"hirshfeld_output_block.transform_features.{place}.{part}")
    move("energy.factor.weight", "atomic_energy_output_block.energy_scales.weight", change=_by_element)
    take("atomic_energy_output_block.energy_shifts")
    move("charges.element.weight", "partial_charges_output_block.atomic_embedding.weight", change=_padded)
    move("volumes.shift.weight", "hirshfeld_output_block.v_shift_embedding.weight", change=_padded)
    move("volumes.query.weight", "hirshfeld_output_block.q_embedding.weight", change=_padded)
    for target, letter in (("exponents", "a"), ("weights", "c")):
        names = [f"zbl_repulsion.{letter}{number}_raw" for number in (1, 2, 3, 4)]
        move(f"repulsion.{target}", *names, change=lambda *values: torch.cat(values))
    move("repulsion.power", "zbl_repulsion.p_raw", change=lambda value: value.reshape(()))
    move("repulsion.density", "zbl_repulsion.d_raw", change=lambda value: value.reshape(()))

    unknown = [name for name in rest if not name.endswith(_CONSTANTS)]
    if unknown:
        raise ModelFileError(f"{path}: has the unknown tensor {unknown[0]}: of another version")
    return {name: value.contiguous() for name, value in result.items()}


# Constants that piwsl computes itself.
_CONSTANTS = (
    ".degree_repeats",
    ".so3_conv_invariants.cg_rep",
    ".so3_conv_invariants.segment_ids",
    ".so3_conv_invariants.segment_sum_matrix",
    "radial_basis_fn.k",
    "radial_basis_fn.k_rev",
)


def _move_layer(move: Callable[..., None], ours: str, theirs: str) -> None:
    block = f"{theirs}.euclidean_attention_block"
    for own_filter, filter_net in (("feature_filter", "filter_net_inv"), ("direction_filter", "filter_net_ev")):
        for own_part, part in (("radial", "mlp_rbf"), ("invariants", "mlp_ev")):
            for place, layer in ((0, "0"), (2, f"{part}_layer_1.0")):
                for kind in ("weight", "bias"):
                    source = f"{filter_net}.{part}.{layer}.{kind}"
                    # The file contains the filters twice, as parts of the layer and of its attention.
                    names = (f"{block}.{source}", f"{theirs}.{source}")
                    target = f"{ours}.attention.{own_filter}.{own_part}.{place}.{kind}"
                    move(target, *names, change=lambda first, second: first)
    move(
        f"{ours}.attention.feature_maps",
        *(f"{block}.W_{letter}_inv" for letter in "qkv"),
        change=lambda *maps: torch.cat(maps, dim=2),
    )
    move(
        f"{ours}.attention.direction_maps",
        *(f"{block}.W_{letter}_ev" for letter in "qk"),
        change=lambda *maps: torch.cat(maps, dim=2),
    )
    for kind in ("weight", "bias"):
        move(f"{ours}.first_norm.{kind}", f"{theirs}.layer_norm_inv_1.{kind}")
        move(f"{ours}.last_norm.{kind}", f"{theirs}.layer_norm_inv_2.{kind}")
        move(f"{ours}.interaction.linear.{kind}", f"{theirs}.interaction_block.linear_layer.{kind}")
        for place in (1, 3):
            move(f"{ours}.residual.{place}.{kind}", f"{theirs}.mlp_1.{place}.{kind}")


def _by_element(weight: Tensor) -> Tensor:
    """Return the rows of an embedding by atomic number, from a matrix (F, elements) that starts at hydrogen."""
    return _padded(torch.cat((weight.new_zeros(weight.shape[0], 1), weight), dim=1).t())


def _padded(rows: Tensor) -> Tensor:
    """Return rows for all atomic numbers, with zeros for elements that the file lacks."""
    result = rows.new_zeros((MAX_ATOMIC_NUMBER + 1, rows.shape[1]))
    count = min(len(rows), len(result))
    result[:count] = rows[:count]
    return result
