"""How kinds of pairs of atoms are called."""

from ase.data import chemical_symbols


def pair_kind(first: int, second: int) -> str:
    """``C-H`` for two atomic numbers: carbon first, hydrogen last, else by the alphabet."""
    symbols = sorted((chemical_symbols[first], chemical_symbols[second]), key=lambda s: (s != "C", s == "H", s))
    return "-".join(symbols)
