"""What is installed, and which devices, platforms and compilers work."""

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

from gpu_check_parts.report import Report, Settings

PACKAGES = (
    *("torch", "triton", "numpy", "ase", "vesin", "pydantic", "openmm", "openmm-cuda-13", "openmm-cuda-12"),
    *("acellera-openmmtorch-cu13", "acellera-openmmtorch-cu12", "acellera-openmmtorch-cpu"),
    *("mdtraj", "lightning", "matplotlib", "numba", "h5py"),
)


def run(report: Report, settings: Settings) -> None:
    report.note("system", f"{platform.platform()}, Python {platform.python_version()}")
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    report.note("packages", ", ".join(f"{name} {number}" for name, number in found.items()))
    for program in ("g++", "nvcc", "nvidia-smi"):
        report.attempt(program, about_program, report, program)
    report.attempt("torch", devices, report, settings)
    report.attempt("OpenMM", platforms, report)
    report.attempt("piwsl doctor", doctor, report)


def about_program(report: Report, program: str) -> None:
    path = shutil.which(program)
    lines = said(program) if path else []
    report.note(program, f"{path}: {lines[0] if lines else ''}" if path else "not found")


def doctor(report: Report) -> None:
    from piwsl.interfaces.doctor import examine

    for one in examine():
        report.note(f"doctor: {one.name}", f"{'works' if one.works else 'does not work'}: {one.detail}")


def said(compiler: str) -> list[str]:
    option = "-L" if compiler == "nvidia-smi" else "--version"
    done = subprocess.run([compiler, option], capture_output=True, text=True, timeout=20, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return lines[-2:-1] if compiler == "nvcc" else lines


def devices(report: Report, settings: Settings) -> None:
    import torch

    built = f"torch {torch.__version__}, built for CUDA {torch.version.cuda}"
    report.note("torch", f"{built}, {torch.get_num_threads()} threads, device {settings.device}")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        memory = about.total_memory / 2**30
        report.note(f"GPU {index}", f"{about.name}, {memory:.0f} GB, capability {about.major}.{about.minor}")
    if settings.gpu:
        ones = torch.ones(4, 4, device="cuda")
        report.check("a product on the GPU", float((ones @ ones - 4.0).abs().max()), 0.0)


def platforms(report: Report) -> None:
    from piwsl.interfaces.openmm.probe import FORCE_PROBES, import_openmm, probe_platform

    openmm = import_openmm()
    names = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
    failures = "; ".join(openmm.Platform.getPluginLoadFailures()) or "none"
    report.note("OpenMM", f"{openmm.version.version}, platforms {' '.join(names)}, plugins that failed: {failures}")
    for name in names:
        report.note(f"OpenMM platform {name}", probe_platform(name).reason)
        for kind, probe in FORCE_PROBES.items():
            report.note(f"{kind} on {name}", probe(name).reason)
