"""Compute energies and forces of molecules with PySCF."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from piwsl.errors import ConfigError, MissingDependencyError, reason_of
from piwsl.units import BOHR, HARTREE

PYSCF = "pyscf:"  # first part of the names of these methods
CORRELATED = ("mp2", "ccsd", "ccsd(t)")
OPTIONS = {
    "charge": 0,
    "spin": None,  # number of unpaired electrons; None selects 0 or 1
    "conv_tol": 1e-9,  # hartree
    "max_cycle": 100,
    "grid_level": 3,
    "forces": True,  # without forces, energies cost less
    "grid_response": True,  # makes forces the exact derivative of the energy on the grid, with zero sum
}


class PySCFCalculator(Calculator):
    """ASE calculator for PySCF: all-electron Hartree-Fock, Kohn-Sham, MP2, CCSD and CCSD(T).

    Closed shells are restricted. A calculation that does not converge raises an error. Every calculation starts from
    PySCF's default guess.

    Args:
        theory: ``hf``, ``mp2``, ``ccsd``, ``ccsd(t)`` or a functional of PySCF.
        basis: Name of a basis set of PySCF.
        options: Values that replace those in ``OPTIONS``.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012  # ASE declares it as a list

    def __init__(self, theory: str, basis: str, options: Mapping[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE's
        self.theory = theory
        self.basis = basis
        self.options = {**OPTIONS, **options}
        if not self.options["forces"]:
            self.implemented_properties = ["energy"]

    @classmethod
    def from_name(cls, name: str, options: Mapping[str, Any]) -> "PySCFCalculator":
        """Create a calculator from a name such as ``pbe/def2-svp``.

        Raises:
            ConfigError: The functional or an option is unknown.
            MissingDependencyError: PySCF is not installed.
        """
        theory, slash, basis = name.lower().rpartition("/")
        if not slash or not theory or not basis:
            raise ConfigError(f"method '{PYSCF}{name}': write {PYSCF}FUNCTIONAL/BASIS, such as {PYSCF}pbe/def2-svp")
        check_options(f"{PYSCF}{name}", options, set(OPTIONS))
        try:
            from pyscf.dft import libxc
        except ImportError as error:
            raise MissingDependencyError("pyscf", "labeling with PySCF", "pyscf") from error
        if theory not in ("hf", *CORRELATED):
            try:
                libxc.parse_xc(theory)
            except (KeyError, NotImplementedError, ValueError) as error:
                raise ConfigError(f"PySCF has no functional {theory!r} ({error})") from None
        return cls(theory, basis, options)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        """Compute the energy (eV) of a molecule and, with the option ``forces``, its forces (eV/angstrom).

        Raises:
            CalculationFailed: The molecule cannot be computed, or a step did not converge.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # ASE's
        assert self.atoms is not None
        if self.atoms.pbc.any():
            raise CalculationFailed(
                "the PySCF methods support only molecules, but the structure is periodic: use another method"
            )
        field = self._mean_field(self.atoms)
        if self.theory == "mp2":
            energy, gradient = self._mp2(field)
        elif self.theory in CORRELATED:
            energy, gradient = self._ccsd(field)
        else:
            solver = field.nuc_grad_method()
            if self.theory != "hf":
                solver.grid_response = self.options["grid_response"]
            energy, gradient = field.e_tot, self._gradient(solver)
        self.results = {"energy": float(energy) * HARTREE}
        if gradient is not None:
            self.results["forces"] = -np.asarray(gradient) * HARTREE / BOHR

    def _mean_field(self, atoms: Atoms) -> Any:
        """Return the converged Hartree-Fock or Kohn-Sham solution."""
        from pyscf import dft, scf

        molecule = self._molecule(atoms)
        if self.theory in ("hf", *CORRELATED):
            field = scf.HF(molecule)
        else:
            field = dft.KS(molecule, xc=self.theory)
            field.grids.level = self.options["grid_level"]
        field.conv_tol, field.max_cycle = self.options["conv_tol"], self.options["max_cycle"]
        field.kernel()
        if not field.converged:
            second_order = field.newton()
            second_order.kernel(field.mo_coeff, field.mo_occ)
            field = second_order.undo_soscf()
        if not field.converged:
            raise self._unconverged("the self-consistent field")
        return field

    def _molecule(self, atoms: Atoms) -> Any:
        from pyscf import gto

        charge = int(self.options["charge"])
        spin = self.options["spin"]
        if spin is None:
            spin = (int(atoms.numbers.sum()) - charge) % 2
        structure = list(zip(atoms.symbols, atoms.positions / BOHR, strict=True))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # hints about other sources of basis sets
                return gto.M(atom=structure, unit="Bohr", basis=self.basis, charge=charge, spin=int(spin), verbose=0)
        except (RuntimeError, KeyError) as error:
            raise CalculationFailed(reason_of(error)) from None

    def _mp2(self, field: Any) -> tuple[float, Any]:
        """Return total energy (hartree) and gradient (n, 3) (hartree/bohr) of MP2; None for a gradient not wanted."""
        from pyscf import mp

        theory = mp.MP2(field).run()
        return theory.e_tot, self._gradient(theory.nuc_grad_method())

    def _gradient(self, solver: Any) -> Any:
        return solver.kernel() if self.options["forces"] else None

    def _ccsd(self, field: Any) -> tuple[float, Any]:
        """Return total energy (hartree) and gradient (n, 3) (hartree/bohr) of CCSD or CCSD(T), like `_mp2`."""
        from pyscf import cc
        from pyscf.cc import ccsd_t_lambda
        from pyscf.grad import ccsd_t

        wanted = self.options["forces"]
        if self.theory == "ccsd(t)" and field.mol.spin and wanted:
            # The analytic gradient, as in PySCF's example, differs from central differences (0.04 eV/angstrom for CH3).
            raise CalculationFailed(
                "PySCF's CCSD(T) forces are wrong for unpaired electrons: use ccsd, or forces=false"
            )
        theory = cc.CCSD(field)
        theory.max_cycle, theory.conv_tol, theory.conv_tol_normt = self.options["max_cycle"], 1e-8, 1e-6
        theory.kernel()
        if not theory.converged:
            raise self._unconverged("CCSD")
        if not wanted:
            return theory.e_tot + (theory.ccsd_t() if self.theory == "ccsd(t)" else 0.0), None
        if self.theory == "ccsd":
            theory.solve_lambda()
            if not theory.converged_lambda:
                raise self._unconverged("the lambda equations of CCSD")
            return theory.e_tot, theory.nuc_grad_method().kernel()
        # The triples change the lambda equations. PySCF's gradient uses the CCSD equations by default.
        integrals = theory.ao2mo(field.mo_coeff)
        converged, l1, l2 = ccsd_t_lambda.kernel(
            theory, integrals, theory.t1, theory.t2, max_cycle=theory.max_cycle, tol=theory.conv_tol_normt, verbose=0
        )
        if not converged:
            raise self._unconverged("the lambda equations of CCSD(T)")
        slope = ccsd_t.Gradients(theory).kernel(theory.t1, theory.t2, l1, l2, eris=integrals)
        return theory.e_tot + theory.ccsd_t(eris=integrals), slope

    def _unconverged(self, what: str) -> CalculationFailed:
        return CalculationFailed(
            f"{what} did not converge in {self.options['max_cycle']} cycles: increase max_cycle, or change spin"
        )


def check_options(method: str, options: Mapping[str, Any], known: set[str]) -> None:
    """Raise an error for options that a method does not support.

    Raises:
        ConfigError: An option is unknown; the message lists the known options.
    """
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"{method} has no option {', '.join(unknown)}: use {', '.join(sorted(known))}")
