"""Maps in the frames of edges commute with rotations about the edge; mirror images only if they are not chiral."""

import pytest
import torch

from piwsl.models.networks.so2 import SO2Linear, order_of_rows
from piwsl.models.networks.wigner import orders_by_order
from tests.support.harmonics import about_z, mirrored

SIZES = [(1, 1), (3, 2), (6, 2)]


def linear(l_max, m_max, chiral, joined=""):
    torch.manual_seed(0)
    return SO2Linear(l_max, m_max, 3, 5, extra=4, chiral=chiral, joined=joined).double().requires_grad_(False)


def orders_of(l_max, m_max, is_joined):
    """Degree and order of each row; of joined rows those of the sums, whose degree has no meaning."""
    signed = [0] + [sign * order for order in range(1, m_max + 1) for sign in (1, -1)]
    return [(0, order) for order in signed] if is_joined else orders_by_order(l_max, m_max)


def values_of(orders):
    return torch.randn(7, len(orders), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("joined", ["", "in", "out"])
@pytest.mark.parametrize("chiral", [False, True])
@pytest.mark.parametrize(("l_max", "m_max"), SIZES)
def test_they_commute_with_rotations_about_the_edge(l_max, m_max, chiral, joined):
    module = linear(l_max, m_max, chiral, joined)
    before, after = orders_of(l_max, m_max, joined == "in"), orders_of(l_max, m_max, joined == "out")
    values = values_of(before)
    results, extra = module(values)
    turned, same = module(about_z(before, 0.7).matmul(values))
    assert results.shape == (7, len(after), 5)
    torch.testing.assert_close(turned, about_z(after, 0.7).matmul(results))
    torch.testing.assert_close(same, extra)
    assert float(results[:, 1:].abs().max()) > 0.1


@pytest.mark.parametrize("chiral", [False, True])
def test_mirror_images_are_told_apart_only_if_chiral(chiral):
    module, orders = linear(3, 2, chiral), orders_by_order(3, 2)
    values = values_of(orders)
    difference = module(mirrored(orders).matmul(values))[0] - mirrored(orders).matmul(module(values)[0])
    assert (float(difference.abs().max()) > 0.1) == chiral


def test_all_degrees_and_channels_of_an_order_are_coupled_and_no_others():
    module, orders = linear(3, 2, False), orders_by_order(3, 2)
    for column, (_, order) in enumerate(orders):
        values = torch.zeros(1, len(orders), 3, dtype=torch.float64)
        base = module(values)[0]
        values[0, column, 1] = 1.0
        changed = (module(values)[0] - base)[0].abs().amin(1) > 1e-6
        assert changed.tolist() == [other == order for _, other in orders]


def test_filters_are_equal_for_cosines_and_sines():
    rows = order_of_rows(3, 2).tolist()
    orders = orders_by_order(3, 2)
    for row, (degree, order) in zip(rows, orders, strict=True):
        assert row == rows[orders.index((degree, abs(order)))]
    assert sorted(set(rows)) == list(range(9))
