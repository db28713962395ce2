"""`piwsl md --template`: a configuration with every option, its default and what it means."""

from typing import Literal, get_args, get_origin

import yaml

from piwsl.md.protocol import MDProtocol

_INPUTS = {
    "system": "A bundled system such as aspirin, or a molecule of rMD17 with structure and model of your own.",
    "structure": "Start structure, any file ASE reads.",
    "model": "Exported potential, or a trained model.pt.",
    "output": "Directory of the run.",
}


def template() -> str:
    """YAML for `piwsl md --config`, with comments."""
    lines = ["# piwsl md --config FILE; what the command line says goes before what stands here.", ""]
    for name, text in _INPUTS.items():
        lines += [f"# {text}", f"#{name}:", ""]
    defaults = MDProtocol().model_dump()
    for name, field in MDProtocol.model_fields.items():
        choices = f" One of {', '.join(get_args(field.annotation))}." if get_origin(field.annotation) is Literal else ""
        value = yaml.safe_dump({name: list(defaults[name]) if isinstance(defaults[name], tuple) else defaults[name]})
        lines += [f"# {field.description}{choices}", value]
    return "\n".join(lines).rstrip() + "\n"
