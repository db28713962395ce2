"""Structures of molecules from SMILES, made by RDKit."""

from ase import Atoms

from piwsl.errors import ConfigError, MissingDependencyError

_SEED = 7  # of the embedding, so that equal SMILES give equal structures


def structure_of_smiles(smiles: str) -> Atoms:
    """Return a three-dimensional structure of a molecule, relaxed with the MMFF94 force field where it applies.

    The structure states the formal charge and the number of unpaired electrons of the SMILES.

    Raises:
        MissingDependencyError: RDKit is not installed.
        ConfigError: The SMILES is invalid, contains several molecules, or has no three-dimensional structure.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        raise MissingDependencyError("RDKit", "making a structure from SMILES", "smiles") from None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise ConfigError(f"smiles={smiles!r}: not a valid SMILES: check brackets, rings and valences")
        if len(Chem.GetMolFrags(molecule)) != 1:
            raise ConfigError(f"smiles={smiles!r}: contains several molecules: give one molecule, or a structure file")
        charge = Chem.GetFormalCharge(molecule)
        unpaired = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        molecule = Chem.AddHs(molecule)
        if rdDistGeom.EmbedMolecule(molecule, randomSeed=_SEED) != 0:
            raise ConfigError(f"smiles={smiles!r}: RDKit finds no structure: give a structure file")
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    positions = molecule.GetConformer().GetPositions()
    info = {"charge": charge, "unpaired_electrons": unpaired}
    return Atoms([atom.GetSymbol() for atom in molecule.GetAtoms()], positions, info=info)
