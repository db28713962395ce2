"""Properties of atomic structures: bonds, contacts, metals, cells and neighbors."""
