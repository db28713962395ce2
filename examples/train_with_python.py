"""Train, evaluate and export a potential for the bundled aspirin from Python.

python examples/train_with_python.py OUTPUT [STEPS]
"""

import sys
from pathlib import Path

import piwsl


def main(output: Path, steps: int) -> None:
    result = piwsl.train(
        "aspirin",
        output=output,
        options={
            "data.train": 500,
            "data.validation": 50,
            "loss.pitc": 1.0,
            "loss.pisc": 0.01,
            "loss.cadence": 10,
            "optimizer.steps": steps,
            "optimizer.batch_size": 5,
            "optimizer.validation_interval": max(1, steps // 4),
        },
    )
    print("\n".join(result.errors.lines()))
    exported = piwsl.export_model(result.model, output / "aspirin.pt", target="openmm", system="aspirin")
    print("\n".join(exported.verification.lines()))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 1000)
