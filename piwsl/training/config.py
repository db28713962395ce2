"""The training configuration: typed, with a description of each key; unknown keys are errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from piwsl.models import ModelConfig, import_modules
from piwsl.runs.config import merged, read_mapping, validate, with_overrides


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Which frames to learn from."""

    system: str | None = Field(None, description="bundled system (aspirin), instead of a file")
    file: str | None = Field(
        None, description="labeled frames: a file, a directory, a pattern such as 'runs/*.xyz', or a named data set"
    )
    units: str | None = Field(None, description="units of the file, such as 'kcal/mol, angstrom', if it states none")
    train: int | None = Field(None, ge=1, description="training frames; empty: all that the others leave")
    validation: int | None = Field(
        None, ge=1, description="validation frames; empty: as many as for training, at most 1/10 and 2000"
    )
    test: int | None = Field(
        None, ge=0, description="test frames from the file, the same for every other size; empty: as published, or none"
    )
    test_file: str | None = Field(None, description="test frames in a file of their own")
    forces_fraction: float = Field(1.0, ge=0, le=1, description="share of the training frames whose forces are used")
    workers: int = Field(0, ge=0, le=64, description="processes that read frames ahead; 0: none")


class ScheduleConfig(Section):
    """A coefficient that changes during training."""

    shape: Literal["linear", "cosine", "step"] = Field("linear", description="how it goes from first to last")
    first: float = Field(0.0, ge=0, description="value up to step begin")
    last: float = Field(1.0, ge=0, description="value from step end on")
    begin: int = Field(0, ge=0, description="step where the change begins")
    end: int = Field(1000, ge=1, description="step where it ends; shape step jumps there")


Coefficient = Annotated[float, Field(ge=0)] | ScheduleConfig


class LossConfig(Section):
    """Coefficients (numbers or schedules) and forms of the loss terms."""

    energy: Coefficient = Field(1.0, description="coefficient of the energy MAE [1/eV]")
    forces: Coefficient = Field(100.0, description="coefficient of the force L2-MAE [A/eV]")
    stress: Coefficient = Field(0.0, description="coefficient of the stress MAE [A^3/eV]")
    pitc: Coefficient = Field(1.0, description="coefficient of PITC, Taylor-expansion consistency [1/eV^2]; 0: off")
    pisc: Coefficient = Field(0.01, description="coefficient of PISC, spatial consistency [1/eV^2]; 0: off")
    pitc_back: Coefficient = Field(0.0, description="coefficient of E(S) against the expansion from S_d back [1/eV^2]")
    pisc_paths: Coefficient = Field(
        0.0, description="coefficient of two expansions of E(S_d), from S and from S_d', against each other [1/eV^2]"
    )
    noisy_node: Coefficient = Field(0.0, description="weight of the supervised terms at S_d with the labels of S")
    taylor_labels: Coefficient = Field(
        0.0, description="coefficient of the energy MAE at S_d with the label E_ref - d.F_ref [1/eV]"
    )
    mixing: float = Field(0.5, ge=0, le=0.5, description="k: 0 first-order expansion, 0.5 trapezoid rule")
    error: Literal["mse", "mae", "huber"] = Field("mse", description="error function of the consistency terms")
    huber_delta: float = Field(0.1, gt=0, description="where huber turns linear [eV]")
    detach: Literal["none", "target", "energy"] = Field(
        "none", description="no gradient through: none, the Taylor target, or only its energy"
    )
    per_atom: bool = Field(False, description="energy mismatch per atom instead of per structure")
    cadence: int = Field(1, ge=1, description="the label-free terms act every so many steps")
    warmup: int = Field(0, ge=0, description="step at which they begin")


class DisplacementConfig(Section):
    """Where the displaced copies lie."""

    direction: Literal["normal", "uniform", "force_error", "energy_error", "disagreement"] = Field(
        "normal", description="random (normal, uniform), or towards an error (the others, adversarial)"
    )
    length: float = Field(0.05, gt=0, le=1.0, description="length [A], or share of the nearest-neighbor distance")
    measure: Literal["absolute", "nearest_neighbor"] = Field("absolute", description="what the length is measured in")
    cap: float = Field(0.3, gt=0, le=0.3, description="largest length, as a share of the nearest-neighbor distance")
    norm: Literal["atom", "structure"] = Field("atom", description="length of each atom, or of all 3N components")
    draw_length: bool = Field(False, description="draw the length from (0, length] for each structure")
    probability: float = Field(1.0, gt=0, le=1, description="probability that an atom moves")
    remove: Literal["nothing", "translation", "rigid"] = Field(
        "nothing", description="part taken out: the mean displacement, or translation and rotation"
    )


class OptimizerConfig(Section):
    """How the weights are moved."""

    steps: int = Field(20_000, ge=1, description="training steps in all")
    batch_size: int = Field(10, ge=1, description="structures in a step, over all processes and parts")
    accumulate: int = Field(1, ge=1, description="parts that a step is computed in, to save memory")
    learning_rate: float = Field(1e-3, gt=0, description="highest learning rate (AdamW)")
    weight_decay: float = Field(0.0, ge=0, description="weight decay (AdamW)")
    amsgrad: bool = Field(True, description="AMSGrad variant of AdamW")
    schedule: Literal["cosine", "plateau", "step", "constant"] = Field(
        "cosine", description="learning rate after warm-up"
    )
    warmup: int = Field(100, ge=0, description="steps of linear warm-up")
    plateau_patience: int = Field(10, ge=1, description="validations without progress before plateau lowers the rate")
    step_interval: int = Field(5000, ge=1, description="steps after which step lowers the rate")
    factor: float = Field(0.5, gt=0, lt=1, description="factor by which plateau and step lower the rate")
    gradient_clip: float = Field(100.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="exponential moving average of the weights")
    validation_interval: int = Field(250, ge=1, description="steps between validations and checkpoints")
    patience: int | None = Field(
        None, ge=1, description="stop after so many validations without progress; empty: never"
    )


class StartConfig(Section):
    """What training starts from."""

    init_from: Path | None = Field(None, description="trained file (model.pt) to fine-tune; empty: random weights")
    reference_energies: Literal["refit", "keep"] = Field(
        "refit", description="energies of the elements: fitted to the new labels, or those of init_from"
    )
    freeze: tuple[str, ...] = Field((), description="weights that stay fixed: beginnings of their names")


def _imported(modules: tuple[str, ...]) -> tuple[str, ...]:
    import_modules(modules)
    return modules


class TrainingConfig(Section):
    """Everything that decides a training run."""

    data: DataConfig = Field(DataConfig(), description="which frames to learn from")
    # Before `model`: fields are checked in this order.
    imports: Annotated[tuple[str, ...], AfterValidator(_imported)] = Field(
        (), description="Python modules to import first, which register networks of your own; their code is executed"
    )
    model: ModelConfig = Field(ModelConfig(), description="which energy network, and how large")
    start: StartConfig = Field(StartConfig(), description="what training starts from")
    loss: LossConfig = Field(LossConfig(), description="coefficients and forms of the loss terms")
    displacement: DisplacementConfig = Field(DisplacementConfig(), description="where the displaced copies lie")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="how the weights are moved")
    seed: int = Field(0, ge=0, description="one seed for the split, the weights, the order and the displacements")
    dtype: Literal["float32", "float64", "bf16-mixed"] = Field(
        "float32", description="float type of the network; bf16-mixed computes in bfloat16 with float32 weights"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where to compute")
    deterministic: bool = Field(False, description="only algorithms that give the same bits in every run")
    threads: int | None = Field(None, ge=1, description="processor threads; empty: all")

    @property
    def mixed_precision(self) -> bool:
        """Whether the network computes in less precision than its weights have."""
        return self.dtype == "bf16-mixed"

    @property
    def weights_dtype(self) -> str:
        """Float type of the weights and of the trained file."""
        return "float64" if self.dtype == "float64" else "float32"


def load_config(
    path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Read a YAML file and apply overrides such as ``section.key=value``.

    Args:
        path: The file; None: all keys have their defaults.
        overrides: They take precedence over the file.
        base: Nested values over which the file takes precedence.

    Raises:
        ConfigError: The file is no YAML mapping, a key is unknown, or a value is out of range.
    """
    values = merged(base or {}, read_mapping(path) if path is not None else {})
    return validate(TrainingConfig, with_overrides(values, overrides), str(path) if path else "options")


def template() -> str:
    """Return a configuration of all defaults in YAML, each key with its meaning."""
    lines: list[str] = []
    for name, field in TrainingConfig.model_fields.items():
        value = field.default
        if isinstance(value, BaseModel):
            lines.append(f"\n# {field.description}\n{name}:")
            for key, (default, description) in _described(value).items():
                lines.append(f"  {key}: {_yaml_value(default)}  # {description}")
        else:
            lines.append(f"\n{name}: {_yaml_value(value)}  # {field.description}")
    return "\n".join(lines).lstrip("\n") + "\n"


def _described(section: BaseModel) -> dict[str, tuple[Any, str]]:
    """Return the value and the description of each key of a section."""
    if isinstance(section, ModelConfig):
        return section.described()
    fields = type(section).model_fields
    return {key: (getattr(section, key), field.description or "") for key, field in fields.items()}


def _yaml_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
