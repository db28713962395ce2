"""Properties of a set of atoms: bonds, contacts, metals, cells, neighbors."""
