"""Train, evaluate and export through the Python API.

python examples/train_with_python.py OUTPUT [STEPS]
"""

import sys
from pathlib import Path

from piwsl.data.frames import Frame
from piwsl.data.systems import named_system
from piwsl.export.exporter import Exporter
from piwsl.training.config import TrainingConfig
from piwsl.training.run import train


def main(output: Path, steps: int) -> None:
    config = TrainingConfig.model_validate(
        {
            "data": {"system": "aspirin", "train": 500, "validation": 50},
            "loss": {"pitc": 1.0, "pisc": 0.01, "cadence": 10},
            "optimizer": {"steps": steps, "batch_size": 5, "validation_interval": max(1, steps // 4)},
        }
    )
    result = train(config, output)
    assert result.test is not None
    print("\n".join(result.test.lines()))
    aspirin = Frame.from_atoms(named_system("aspirin").structure)
    check = Exporter([result.model]).openmm(aspirin, output / "aspirin.pt")
    print("\n".join(check.lines()))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1000)
