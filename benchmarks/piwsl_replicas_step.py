"""A contestant of replicas.py: a step of Langevin dynamics of many aspirins with an exported file.

python benchmarks/piwsl_replicas_step.py native|openmm FILE REPLICAS
"""

import sys
from pathlib import Path

from step_server import serve

from piwsl.data.systems import named_system
from piwsl.md.engines.make import make_engine
from piwsl.md.protocol import MDProtocol
from piwsl.md.simulation import starts


def main() -> None:
    kind, file, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    atoms = named_system("aspirin").structure
    protocol = MDProtocol.of(temperature=10, timestep=0.1, replicas=count, engine=kind)
    engine = make_engine(file, atoms, protocol, starts(atoms, protocol, range(count)))

    def step(number: int) -> float:
        engine.advance(1)
        return 0.0

    serve(step, {"library": "piwsl", "platform": engine.platform})


if __name__ == "__main__":
    main()
