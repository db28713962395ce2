"""A contestant of replicas.py: a step of Langevin dynamics of many aspirins with an exported file.

python benchmarks/piwsl_replicas_step.py native|openmm FILE REPLICAS
"""

import sys
from pathlib import Path

import numpy as np
from step_server import serve

from piwsl.data.systems import named_system
from piwsl.md.engines.make_replicas import make_replica_engine
from piwsl.md.engines.replicas import replica_seeds
from piwsl.md.protocol import MDProtocol


def main() -> None:
    kind, file, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    atoms = named_system("aspirin").structure
    protocol = MDProtocol.of(temperature=10, timestep=0.1)
    engine = make_replica_engine(file, atoms, protocol, replica_seeds(0, count), kind)  # type: ignore[arg-type]
    engine.start(np.zeros((count, len(atoms), 3)))

    def step(number: int) -> float:
        engine.advance(1)
        return 0.0

    serve(step, {"library": "piwsl", "platform": engine.platform})


if __name__ == "__main__":
    main()
