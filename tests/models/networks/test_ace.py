import pytest
import torch
from ase.build import bulk, molecule

from piwsl.data.batch import collate
from piwsl.data.frames import Frame
from piwsl.models.networks.ace import ACE, TensorProduct
from piwsl.models.networks.cartesian import matrix_basis


def matrices(components):
    """Matrices (N, F, 3, 3) of the traceless parts (N, 5, F)."""
    return torch.einsum("ncf,cij->nfij", components, matrix_basis()[4:])


def vectors(components):
    return components.transpose(1, 2)


def traceless(products):
    """Components (N, 5, F) of products (N, F, 3, 3)."""
    return torch.einsum("nfij,cij->ncf", products, matrix_basis()[4:])


@pytest.mark.parametrize("path", range(11))
def test_each_path_is_its_product(path):
    generator = torch.Generator().manual_seed(path)
    left, right = torch.randn(2, 4, 9, 3, generator=generator, dtype=torch.float64)
    weights = torch.zeros(4, 11, 3, dtype=torch.float64)
    weights[:, path] = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    s, v, t = left.split([1, 3, 5], dim=1)
    a, b, c = right.split([1, 3, 5], dim=1)
    expected = torch.zeros(4, 9, 3, dtype=torch.float64)
    scalars, to_vectors, to_matrices = expected[:, :1], expected[:, 1:4], expected[:, 4:]
    factor = 1.5**0.5
    if path == 0:
        scalars += s * a
    elif path == 1:
        scalars += (v * b).sum(1, keepdim=True)
    elif path == 2:
        scalars += torch.einsum("nfij,nfij->nf", matrices(t), matrices(c)).unsqueeze(1)
    elif path == 3:
        to_vectors += s * b
    elif path == 4:
        to_matrices += s * c
    elif path == 5:
        to_vectors += a * v
    elif path == 6:
        to_matrices += a * t
    elif path == 7:
        to_vectors += torch.einsum("nfij,nfj->nif", matrices(t), vectors(b))
    elif path == 8:
        to_vectors += torch.einsum("nfij,nfj->nif", matrices(c), vectors(v))
    elif path == 9:
        to_matrices += factor * traceless(torch.einsum("nfi,nfj->nfij", vectors(v), vectors(b)))
    else:
        to_matrices += factor * traceless(matrices(t) @ matrices(c))
    expected = expected * weights[:, path : path + 1]
    assert torch.allclose(TensorProduct()(left, right, weights), expected, rtol=0, atol=1e-12)


def energies(network, atoms):
    batch = collate([Frame.from_atoms(atoms)], network.cutoff)
    vectors = batch.positions[batch.edges[1]] - batch.positions[batch.edges[0]] + batch.edge_shifts
    return network(batch.species, batch.edges, vectors, batch.structure_index).detach()


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("channels", [32, 128])
def test_new_networks_begin_with_features_of_order_one(layers, channels):
    torch.manual_seed(0)
    network = ACE(channels=channels, layers=layers)
    sizes = []

    def note(module, inputs, output):
        sizes.append(float(output.detach().square().mean().sqrt()))

    for interaction in (network.first, *network.interactions):
        interaction.register_forward_hook(note)
    energies(network, molecule("C6H6"))
    assert len(sizes) == layers
    assert all(0.05 < size < 5.0 for size in sizes)


@pytest.mark.parametrize("cutoff", [4.0, 6.0])
def test_no_crystal_and_no_collision_overflows(cutoff):
    # Without the limit the same networks give up to 1e10.
    copper, colliding = bulk("Cu", cubic=True), molecule("C6H6")
    copper.rattle(0.05, seed=0)
    colliding.positions *= 0.3
    for seed in range(3):
        torch.manual_seed(seed)
        network = ACE(channels=32, layers=3, cutoff=cutoff)
        for atoms in (copper, colliding):
            assert float(energies(network, atoms).abs().max()) < 1000.0
