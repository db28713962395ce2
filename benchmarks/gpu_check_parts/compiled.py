"""Files compiled with AOTInductor on the device, evaluated directly and by OpenMM."""

from gpu_check_parts.report import Report, Settings, Skip


def run(report: Report, settings: Settings) -> None:
    if settings.small:
        report.attempt("compiled files", skip)
        return
    from gpu_check_parts.contexts import in_openmm
    from gpu_check_parts.forms import check

    for name, target in (("aspirin", "openmm"), ("cell", "general")):
        title = f"{name}, compiled, {target}"
        report.attempt(title, check, report, settings, title, name, target, "aotinductor", settings.device)
        if name == "aspirin":
            platform = "CUDA" if settings.gpu else "Reference"
            title = f"{name}, compiled, PythonForce on {platform}"
            report.attempt(title, in_openmm, report, settings, title, name, "aotinductor", "python", platform)


def skip() -> None:
    raise Skip("compiling takes a minute")
