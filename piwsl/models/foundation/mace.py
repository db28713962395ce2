"""Reader for MACE models in files of mace-torch 0.3."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from ase.data import covalent_radii
from torch import Tensor

from piwsl.errors import ConfigError, ModelFileError, shortened
from piwsl.models.build import ModelConfig
from piwsl.models.foundation.description import FoundationModel, Origin
from piwsl.models.foundation.irreps import KNOWN as KNOWN_E3NN
from piwsl.models.foundation.irreps import (
    element_maps,
    irreps,
    linear_maps,
    network_weights,
    product_weights,
    refused,
    silu_factor,
)
from piwsl.models.foundation.pickled import Record, conversion_errors, read_pickled, shown, tensors_of
from piwsl.models.networks.spherical_layers import convolution_paths

ROOTS = {"mace.modules.models.ScaleShiftMACE", "mace.modules.models.MACE"}
_KINDS = {
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticInteractionBlock": "agnostic",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "residual-density",
}
_BLOCKS = {
    "AtomicEnergiesBlock",
    "EquivariantProductBasisBlock",
    "LinearNodeEmbeddingBlock",
    "LinearReadoutBlock",
    "NonLinearReadoutBlock",
    "RadialEmbeddingBlock",
    "ScaleShiftBlock",
}
KNOWN = (
    ROOTS
    | {f"mace.modules.blocks.{name}" for name in (*_BLOCKS, *_KINDS)}
    | KNOWN_E3NN
    | {
        "mace.modules.irreps_tools.reshape_irreps",
        "mace.modules.radial.AgnesiTransform",
        "mace.modules.radial.BesselBasis",
        "mace.modules.radial.PolynomialCutoff",
        "mace.modules.radial.ZBLBasis",
        "mace.modules.symmetric_contraction.Contraction",
        "mace.modules.symmetric_contraction.SymmetricContraction",
        # Source code of the original modules. It remains data and is not used.
        "torch.fx._symbolic_trace.Tracer",
        "torch.fx.graph_module.reduce_graph_module",
        "torch.nn.functional.silu",
        "torch.nn.modules.container.ModuleList",
        "torch.nn.modules.container.ParameterList",
    }
)
# Supported values of attributes. A file may lack them.
_REQUIRED: dict[str, tuple[Any, ...]] = {
    "apply_cutoff": (True,),
    "embedding_specs": (None,),
    "lammps_mliap": (False,),
    "use_agnostic_product": (False,),
    "use_edge_irreps_first": (False,),
    "use_embedding_readout": (False,),
    "use_so3": (False,),
}
_LICENSE = (
    "not stated in the file (MACE-MP-0: MIT; MACE-OFF, MACE-OMAT, MACE-MatPES, MACE-OMOL: non-commercial; "
    "otherwise ask its authors)"
)


def read_mace(path: Path, *, source: str, license: str | None = None, head: str | None = None) -> FoundationModel:
    """Read a MACE model from a file that contains the whole module.

    Args:
        path: Path of the file, which mace-torch saved.
        source: Name of the file in the description of the model.
        license: License of the weights; None if it is not stated.
        head: Name of the head. It may be None if the model has a single head.

    Raises:
        ModelFileError: The file is damaged, is not a MACE model, or has a part that piwsl does not represent.
        ConfigError: The model has no head of this name, or it has several heads and none was chosen.
    """
    return convert_mace(read_pickled(path, KNOWN), path, source, license, head)


def convert_mace(model: Record, path: Path, source: str, license: str | None, head: str | None) -> FoundationModel:
    """Convert the record of a module. Arguments and errors are the same as for `read_mace`."""
    if model.name not in ROOTS:
        raise ModelFileError(f"{path}: contains {model.name}, not a MACE model")
    for name, allowed in _REQUIRED.items():
        if model.attribute(name, allowed[0]) not in allowed:
            raise refused(path, f"the option {name}={shown(model.attribute(name))}")
    with conversion_errors(path, "a MACE model"):
        heads = _heads(model)
        number = _head(heads, head, path)
        return _Converter(model, path, number).convert(source, license or _LICENSE, heads[number])


def _heads(model: Record) -> list[str]:
    heads = model.attribute("heads") or ["Default"]
    if not isinstance(heads, list | tuple) or not all(isinstance(name, str) for name in heads):
        raise TypeError("heads that are no names")
    return list(heads)


def _head(heads: list[str], head: str | None, path: Path) -> int:
    if head is None and len(heads) == 1:
        return 0
    if head not in heads:
        asked = "choose one" if head is None else f"not {head!r}"
        raise ConfigError(f"{path}: its heads are {shortened(', '.join(heads))}: {asked} with head='NAME'")
    return heads.index(head)


class _Converter:
    def __init__(self, model: Record, path: Path, head: int) -> None:
        self.model = model
        self.path = path
        self.head = head
        self.tensors: dict[str, Tensor] = {}
        self.interactions = self._list("interactions")
        self.products = self._list("products")
        self.readouts = self._list("readouts")
        self.elements = [int(number) for number in model.attribute("atomic_numbers").tolist()]

    def convert(self, source: str, license: str, head: str) -> FoundationModel:
        options = self._options()
        config = ModelConfig(network="mace", **options)
        dtype = self.model.attribute("node_embedding").attribute("linear").attribute("weight").dtype
        ((_, embedding),) = linear_maps(self.model.attribute("node_embedding").attribute("linear")).items()
        self.tensors["embedding.weight"] = embedding.t()
        self._radial()
        for number in range(len(self.interactions)):
            self._layer(number, options)
        self._read_out(options)
        scale, shift = self._scale_and_shift()
        self._repulsion(options)
        self._check_sizes(options)
        energies = self.model.attribute("atomic_energies_fn").attribute("atomic_energies").to(torch.float64)
        energies = energies.reshape(-1, len(self.elements))
        own = energies[self.head if len(energies) > 1 else 0]
        several = f", head {head}" if len(self.model.attribute("heads") or [""]) > 1 else ""
        return FoundationModel(
            config=config,
            tensors={name: value.to(dtype).contiguous() for name, value in self.tensors.items()},
            reference_energies={z: float(own[place]) + shift for place, z in enumerate(self.elements)},
            scale=scale,
            dtype=str(dtype).removeprefix("torch."),
            origin=Origin(
                name=f"MACE ({source}{several})",
                license=license,
                citation="I. Batatia et al., NeurIPS 35, 11423 (2022), and the publication of the model",
                level=None,
                source=source,
            ),
        )

    def _check_sizes(self, options: dict[str, Any]) -> None:
        """Compare the largest tensors with the options, because the network allocates memory for its options.

        Raises:
            ValueError: A tensor has another size, so that the network may be far larger than the file.
        """
        elements, channels = len(self.elements), options["channels"]
        radial = [options["radial_size"], *options["radial_layers"]]
        expected: dict[str, tuple[int, ...]] = {"embedding.weight": (elements, channels)}
        for number in range(len(self.interactions)):
            prefix = f"layers.{number}"
            expected[f"{prefix}.skip.weights"] = (elements, channels, channels)
            expected[f"{prefix}.products.weights"] = (channels,)
            for place, (inputs, outputs) in enumerate(pairwise(radial)):
                expected[f"{prefix}.filters.layers.{place}.weight"] = (outputs, inputs)
        for name, size in expected.items():
            if tuple(self.tensors[name].shape[-len(size) :]) != size:
                raise ValueError(f"the size of {name} contradicts the options")

    def _list(self, name: str) -> list[Record]:
        modules = self.model.attribute(name).attribute("_modules")
        return [modules[str(number)] for number in range(len(modules))]

    def _options(self) -> dict[str, Any]:
        kinds = [re.sub(r".*\.", "", interaction.name) for interaction in self.interactions]
        known = [_KINDS.get(kind) for kind in kinds]
        if None in known or len(set(known[1:])) > 1:
            raise ValueError(f"interactions of the kinds {', '.join(kinds)}")
        if len(self.readouts) == 1 and self.readouts[0].name.endswith(".LinearReadoutBlock"):
            raise ValueError("one layer with a linear readout")
        hidden = irreps(self.interactions[0].attribute("hidden_irreps"))
        # In a model with one layer, the hidden features never occur, because its results are scalars.
        degrees = [degree for _, degree in hidden]
        channels = {multiplicity for multiplicity, _ in hidden}
        directions = irreps(self.interactions[0].attribute("edge_attrs_irreps"))
        if len(channels) != 1 or degrees != sorted(set(degrees)) or degrees[0] != 0:
            raise ValueError(f"hidden features with {hidden}")
        if directions != [(1, degree) for degree in range(len(directions))]:
            raise ValueError(f"directions with {directions}")
        radial = self.model.attribute("radial_embedding")
        networks = [one.attribute("conv_tp_weights").attribute("hs") for one in self.interactions]
        hidden_layers = [[int(size) for size in sizes[1:-1]] for sizes in networks]
        if any(layers != hidden_layers[0] for layers in hidden_layers):
            raise ValueError(f"radial networks of the sizes {hidden_layers}")
        last = irreps(self.readouts[-1].attribute("hidden_irreps"))
        return {
            "cutoff": float(self.model.attribute("r_max")),
            "elements": self.elements,
            "channels": channels.pop(),
            "hidden_degrees": degrees,
            "largest_degree": len(directions) - 1,
            "correlations": [self._correlation(one) for one in self.products],
            "first_interaction": known[0],
            "interaction": known[-1],
            "radial_size": len(radial.attribute("bessel_fn").attribute("bessel_weights")),
            "cutoff_power": int(radial.attribute("cutoff_fn").attribute("p")),
            "radial_layers": hidden_layers[0],
            "readout_width": last[0][0] // int(self.readouts[-1].attribute("num_heads") or 1),
            "pair_repulsion": self.model.attribute("pair_repulsion_fn") is not None,
            "distance_transform": "none" if radial.attribute("distance_transform") is None else "agnesi",
            "last_readout_only": bool(self.model.attribute("use_last_readout_only")),
        }

    @staticmethod
    def _correlation(block: Record) -> int:
        if block.attribute("use_agnostic_product"):
            raise ValueError("products that are equal for all elements")
        contractions = block.attribute("symmetric_contractions").attribute("contractions").attribute("_modules")
        orders = {int(one.attribute("correlation")) for one in contractions.values()}
        (order,) = orders
        return order

    def _radial(self) -> None:
        radial = self.model.attribute("radial_embedding")
        transform = radial.attribute("distance_transform")
        if transform is not None:
            self._check_radii(transform, "a transformation of distances")
            for ours, theirs in (("factor", "a"), ("outer", "q"), ("inner", "p")):
                self.tensors[f"transforms.0.{ours}"] = transform.attribute(theirs).reshape(())
        bessel = radial.attribute("bessel_fn")
        expected = (2.0 / float(self.model.attribute("r_max"))) ** 0.5
        if abs(float(bessel.attribute("prefactor")) - expected) > 1e-5:
            raise ValueError("radial functions with another factor")
        self.tensors["radial.frequencies"] = bessel.attribute("bessel_weights")

    def _layer(self, number: int, options: dict[str, Any]) -> None:
        interaction, block, prefix = self.interactions[number], self.products[number], f"layers.{number}"
        features = irreps(interaction.attribute("node_feats_irreps"))
        edge = interaction.attribute("edge_irreps")
        if edge is not None and irreps(edge) != features:
            raise ValueError("other channels on edges than on atoms")
        kind = options["interaction"] if number else options["first_interaction"]
        for (source, target), weight in linear_maps(interaction.attribute("linear_up")).items():
            if source != target:
                raise ValueError("a linear map between different features")
            self.tensors[f"{prefix}.before.maps.{source}.weight"] = weight
        paths = self._filters(interaction, prefix, tuple(degree for _, degree in features), options)
        neighbors = 1.0
        if "density" in kind:
            for place, weight in enumerate(network_weights(interaction.attribute("density_fn"))):
                self.tensors[f"{prefix}.densities.0.layers.{place}.weight"] = weight
        else:
            neighbors = float(interaction.attribute("avg_num_neighbors"))
        for degree, weight in enumerate(self._message_maps(interaction, paths, options)):
            self.tensors[f"{prefix}.after.maps.{degree}.weight"] = weight / neighbors
        skips = element_maps(interaction.attribute("skip_tp"))
        self.tensors[f"{prefix}.skip.weights"] = torch.stack([skips[key] for key in sorted(skips)])
        self._products(block, prefix, options["largest_degree"])
        if block.attribute("use_sc") != ("residual" in kind):
            raise ValueError("products without the connection of their interaction")
        for (source, target), weight in linear_maps(block.attribute("linear")).items():
            if source != target:
                raise ValueError("a linear map between different products")
            self.tensors[f"{prefix}.mix.maps.{target}.weight"] = weight

    def _filters(
        self, interaction: Record, prefix: str, features: tuple[int, ...], options: dict[str, Any]
    ) -> list[tuple[int, int, int]]:
        """Convert the radial network, and return the paths in the order of the messages in the file.

        The converted last layer includes the factors of the paths, and has the order of the paths in piwsl.
        """
        weights = network_weights(interaction.attribute("conv_tp_weights"))
        convolution = interaction.attribute("conv_tp")
        targets = irreps(convolution.attribute("irreps_out"))
        last = weights[-1].reshape(-1, options["channels"], weights[-1].shape[1])
        by_path: dict[tuple[int, int, int], Tensor] = {}
        by_target: dict[int, tuple[int, int, int]] = {}
        for place, instruction in enumerate(convolution.attribute("instructions")):
            source, direction, target, mode, has_weight, factor, _ = instruction.arguments
            if mode != "uvu" or not has_weight or target in by_target:
                raise ValueError(f"a convolution with the connection {shown(mode)}")
            degree = targets[target][1]
            path = by_target[target] = features[source], direction, degree
            by_path[path] = last[place] * (factor / (2 * degree + 1) ** 0.5)
        paths = convolution_paths(features, options["largest_degree"], tuple(range(options["largest_degree"] + 1)))
        if sorted(by_path) != sorted(paths):
            raise ValueError(f"a convolution with the paths {sorted(by_path)}")
        weights[-1] = torch.cat([by_path[path] for path in paths])
        for place, weight in enumerate(weights):
            self.tensors[f"{prefix}.filters.layers.{place}.weight"] = weight
        return [by_target[target] for target in sorted(by_target)]

    @staticmethod
    def _message_maps(
        interaction: Record, messages: list[tuple[int, int, int]], options: dict[str, Any]
    ) -> list[Tensor]:
        """Return the map for the messages of each degree. Its inputs are the paths in the order of piwsl.

        Depending on its version, a file has one entry for each path, or one for all paths of a degree.
        """
        linear, channels = interaction.attribute("linear"), options["channels"]
        entries = irreps(linear.attribute("irreps_in"))
        blocks: dict[tuple[int, int, int], Tensor] = {}
        for (source, target), weight in linear_maps(linear).items():
            degree = entries[source][1]
            if degree != target:
                raise ValueError("a linear map between different messages")
            first = sum(multiplicity for multiplicity, other in entries[:source] if other == degree)
            own = [path for path in messages if path[2] == degree][first // channels :]
            blocks |= dict(zip(own, weight.split(channels, dim=1), strict=False))
        paths = sorted(blocks, key=lambda path: (path[2], path[0], path[1]))
        if sorted(paths) != sorted(messages):
            raise ValueError("messages without a linear map")
        degrees = range(options["largest_degree"] + 1)
        return [torch.cat([blocks[path] for path in paths if path[2] == degree], dim=1) for degree in degrees]

    def _products(self, block: Record, prefix: str, largest: int) -> None:
        contraction = block.attribute("symmetric_contractions")
        modules = contraction.attribute("contractions").attribute("_modules")
        degrees = [degree for _, degree in irreps(contraction.attribute("irreps_out"))]
        parts = []
        for number, degree in enumerate(degrees):
            own = modules[str(number)]
            order = int(own.attribute("correlation"))
            tensors = tensors_of(own)
            for factors in range(1, order + 1):
                if factors == order:
                    name, flag = "weights_max", "weights_max_zeroed"
                else:
                    place = order - 1 - factors
                    name, flag = f"weights.{place}", f"weights_{place}_zeroed"
                weights = tensors[name].to(torch.float64)
                if flag in tensors and bool(tensors[flag]):
                    weights = torch.zeros_like(weights)
                matrix = tensors[f"U_matrix_{factors}"].to(torch.float64)
                parts.append(product_weights(matrix, weights, largest, factors, degree))
        self.tensors[f"{prefix}.products.weights"] = torch.cat(parts, dim=1)

    def _read_out(self, options: dict[str, Any]) -> None:
        early = self.readouts[:-1]
        if options["last_readout_only"] and early:
            raise ValueError("several readouts beside the option of one")
        for number in range(len(self.interactions) - 1):
            channels = options["channels"]
            weight = torch.zeros(1, channels, dtype=torch.float64)
            if early:
                if not early[number].name.endswith(".LinearReadoutBlock"):
                    raise ValueError(f"an early readout of type {early[number].name}")
                weight = linear_maps(early[number].attribute("linear"))[0, 0]
                weight = weight[self.head : self.head + 1] if len(weight) > 1 else weight
            self.tensors[f"early_readouts.{number}.weight"] = weight
        last = self.readouts[-1]
        if not last.name.endswith(".NonLinearReadoutBlock"):
            raise ValueError(f"a last readout of type {last.name}")
        first, second = (linear_maps(last.attribute(name))[0, 0] for name in ("linear_1", "linear_2"))
        width, heads = options["readout_width"], len(second)
        factor = silu_factor(last.attribute("non_linearity").attribute("acts").attribute("0"))
        own = slice(self.head * width, (self.head + 1) * width) if heads > 1 else slice(0, width)
        self.tensors["readout.0.weight"] = first[own]
        self.tensors["readout.2.weight"] = factor * second[self.head if heads > 1 else 0, own].unsqueeze(0)

    def _scale_and_shift(self) -> tuple[float, float]:
        block = self.model.attribute("scale_shift")
        if block is None:
            return 1.0, 0.0
        scale, shift = (block.attribute(name).to(torch.float64).reshape(-1) for name in ("scale", "shift"))
        return float(scale[self.head if len(scale) > 1 else 0]), float(shift[self.head if len(shift) > 1 else 0])

    def _check_radii(self, record: Record, what: str) -> None:
        radii = record.attribute("covalent_radii").to(torch.float64)
        known = torch.tensor(covalent_radii, dtype=torch.float64)
        if not torch.allclose(radii[self.elements], known[self.elements], atol=1e-5):
            raise ValueError(f"{what} with other covalent radii")

    def _repulsion(self, options: dict[str, Any]) -> None:
        repulsion = self.model.attribute("pair_repulsion_fn")
        if repulsion is None:
            return
        self._check_radii(repulsion, "a repulsion")
        if int(repulsion.attribute("p")) != options["cutoff_power"]:
            raise ValueError(f"a repulsion with the cutoff power {int(repulsion.attribute('p'))}")
        self.tensors["repulsions.0.coefficients"] = repulsion.attribute("c")
        self.tensors["repulsions.0.power"] = repulsion.attribute("a_exp").reshape(())
        self.tensors["repulsions.0.length"] = repulsion.attribute("a_prefactor").reshape(())
