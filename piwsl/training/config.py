"""Training configuration, with a type and a description for each key. Unknown keys are errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from piwsl.errors import ConfigError, shortened
from piwsl.models import ModelConfig, import_modules, registered_networks
from piwsl.runs.config import LARGEST_SEED, Count, Seed, commented_yaml, described_fields, load
from piwsl.training.data_config import DataConfig, Section


class ScheduleConfig(Section):
    """Schedule of a coefficient that changes during training."""

    shape: Literal["linear", "cosine", "step"] = Field("linear", description="curve between first and last")
    first: float = Field(0.0, ge=0, description="value up to step `begin`")
    last: float = Field(1.0, ge=0, description="value from step `end` on")
    begin: Count = Field(0, ge=0, description="step at which the change begins")
    end: Count = Field(1000, ge=1, description="step at which the change ends; `step` jumps there")


Coefficient = Annotated[float, Field(ge=0)] | ScheduleConfig


class LossConfig(Section):
    """Section `loss`: coefficients (numbers or schedules) and options of the loss terms."""

    preset: Literal["auto", "plain", "direct", "teacher"] = Field(
        "auto",
        description="values of `pitc`, `pisc` and `teacher_forces` where they are empty: `plain` (0), `direct` (`pitc` "
        "100) or `teacher` (`teacher_forces` 10); `auto`: `teacher` if there is one, `direct` for direct forces, or "
        "`plain`",
    )
    energy: Coefficient = Field(1.0, description="coefficient of the energy MAE [1/eV]")
    forces: Coefficient = Field(100.0, description="coefficient of the force L2-MAE [A/eV]")
    stress: Coefficient = Field(0.0, description="coefficient of the stress MAE [A^3/eV]")
    pitc: Coefficient | None = Field(
        None, description="coefficient of PITC, Taylor-expansion consistency [1/eV^2]; 0: off; empty: see `preset`"
    )
    pisc: Coefficient | None = Field(
        None, description="coefficient of PISC, spatial consistency [1/eV^2]; 0: off; empty: see `preset`"
    )
    pitc_back: Coefficient = Field(0.0, description="coefficient of E(S) against the expansion around S_d [1/eV^2]")
    pisc_paths: Coefficient = Field(
        0.0, description="coefficient of the difference of two expansions of E(S_d), around S and around S_d' [1/eV^2]"
    )
    noisy_node: Coefficient = Field(0.0, description="coefficient of the supervised terms at S_d with the labels of S")
    taylor_labels: Coefficient = Field(
        0.0, description="coefficient of the energy MAE at S_d with the label E_ref - d.F_ref [1/eV]"
    )
    contrast: Coefficient = Field(
        0.0, description="coefficient of E(data) - E(dynamics of the model), see section `contrast` [1/eV]; 0: off"
    )
    teacher_forces: Coefficient | None = Field(
        None,
        description="coefficient of the L2-MAE between the forces of model and teacher [A/eV]; 0: off; empty: see "
        "`preset`",
    )
    teacher_pitc: Coefficient = Field(
        0.0, description="coefficient of E(S_d) - E(S) against the same difference of the teacher [1/eV^2]"
    )
    teacher_curvature: Coefficient = Field(
        0.0, description="coefficient of the difference of Hessian-vector products of model and teacher [A^2/eV]"
    )
    mixing: float = Field(0.5, ge=0, le=0.5, description="k of the expansion; 0: first order, 0.5: trapezoid rule")
    error: Literal["mse", "mae", "huber"] = Field("mse", description="error function of the consistency terms")
    huber_delta: float = Field(0.1, gt=0, description="mismatch beyond which `huber` is linear [eV]")
    detach: Literal["none", "target", "energy"] = Field(
        "none", description="part without gradient: none, the Taylor target, or only its energy"
    )
    per_atom: bool = Field(False, description="use the energy mismatch per atom instead of per structure")
    cadence: Count = Field(1, ge=1, description="number of steps between evaluations of the label-free terms")
    warmup: Count = Field(0, ge=0, description="step at which the label-free terms begin")


class TeacherConfig(Section):
    """Section `teacher`: the trained model whose predictions replace labels, for the terms `loss.teacher_...`."""

    file: Path | None = Field(
        None, description="trained file (model.pt), or the directory of a run or an ensemble; empty: no teacher"
    )
    frames: Literal["without_forces", "all"] = Field(
        "without_forces", description="frames on which its terms act: those without force labels, or all"
    )
    target: Literal["energy", "work"] = Field(
        "energy", description="weak label of `loss.teacher_pitc`: its energy difference, or the work of its forces"
    )


class DisplacementConfig(Section):
    """Section `displacement`: direction and length of the displacements of the copies."""

    direction: Literal["normal", "uniform", "force_error", "energy_error", "disagreement"] = Field(
        "normal", description="random (`normal`, `uniform`), or adversarial along the gradient of an error (the others)"
    )
    length: float = Field(0.05, gt=0, le=1.0, description="length [A], or fraction of the nearest-neighbor distance")
    measure: Literal["absolute", "nearest_neighbor"] = Field(
        "absolute", description="unit of the length: A, or the nearest-neighbor distance of each atom"
    )
    cap: float = Field(
        0.3, gt=0, le=0.3, description="upper limit of the length, as a fraction of the nearest-neighbor distance"
    )
    norm: Literal["atom", "structure"] = Field(
        "atom", description="vector whose norm equals the length: the displacement of each atom, or all 3N components"
    )
    draw_length: bool = Field(False, description="draw the length from (0, length] for each structure")
    probability: float = Field(1.0, gt=0, le=1, description="probability that an atom moves")
    remove: Literal["nothing", "translation", "rigid"] = Field(
        "nothing", description="part to remove: the mean displacement, or translation and rotation"
    )


class ContrastConfig(Section):
    """Section `contrast`: dynamics of the model under training, for the loss term of the same name."""

    temperature: float | None = Field(
        None, gt=0, le=1e5, description="temperature at which the training frames were sampled [K]; required"
    )
    chains: int = Field(4, ge=1, le=1024, description="number of Langevin chains, each moved once in a training step")
    timestep: float = Field(0.5, gt=0, le=5, description="time step [fs]")
    friction: float = Field(0.02, gt=0, le=1, description="friction coefficient [1/fs]")
    lifetime: Count = Field(2000, ge=1, description="largest number of steps before a chain starts again from a frame")


class OptimizerConfig(Section):
    """Section `optimizer`: length of training, optimizer, and learning-rate schedule."""

    steps: Count = Field(20_000, ge=1, description="number of training steps")
    minutes: float | None = Field(
        None,
        gt=0,
        description="time budget [min]: training ends when the steps or the minutes are used up, and the cosine "
        "schedule follows whichever is further; empty: none",
    )
    batch_size: int = Field(
        10, ge=1, le=10**6, description="structures in a step, over all processes and accumulated parts"
    )
    accumulate: int = Field(
        1, ge=1, le=10**6, description="number of parts in which a step is computed, to save memory"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW")
    amsgrad: bool = Field(True, description="use the AMSGrad variant of AdamW")
    schedule: Literal["cosine", "plateau", "step", "constant"] = Field(
        "cosine", description="schedule of the learning rate after warm-up"
    )
    warmup: Count = Field(100, ge=0, description="steps of linear warm-up")
    plateau_patience: Count = Field(
        10, ge=1, description="validations without improvement before `plateau` lowers the learning rate"
    )
    step_interval: Count = Field(5000, ge=1, description="steps between reductions of the learning rate by `step`")
    factor: float = Field(0.5, gt=0, lt=1, description="factor by which `plateau` and `step` lower the learning rate")
    gradient_clip: float = Field(100.0, gt=0, description="maximum norm of the gradient")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the exponential moving average of the weights")
    validation_interval: Count = Field(250, ge=1, description="steps between validations and checkpoints")
    patience: Count | None = Field(
        None, ge=1, description="stop after this number of validations without improvement; empty: never"
    )
    monitor: Literal["loss", "energy", "forces"] = Field(
        "loss",
        description="validation error that selects the weights, counts for patience and lowers the rate of plateau: "
        "the supervised loss terms whose labels the training frames have, only the energy MAE, or only the force error",
    )


GAUSS_NEWTON = "gauss_newton"  # value of start.method


class StartConfig(Section):
    """Section `start`: the trained file to fine-tune, and the weights to freeze."""

    init_from: Path | None = Field(None, description="trained file (model.pt) to fine-tune; empty: random weights")
    reference_energies: Literal["refit", "keep"] = Field(
        "refit", description="energies of the elements: refit to the new labels, or keep the values of init_from"
    )
    method: Literal["full", "lora", "freeze", "gauss_newton"] | None = Field(
        None,
        description="weights to train: full (all), freeze (all except those under start.freeze), or lora (low-rank "
        "changes of the weights of init_from); or gauss_newton (a least-squares fit of the weights of init_from to "
        "energies, without loss terms and optimizer); empty: freeze if start.freeze is set, otherwise full",
    )
    freeze: tuple[str, ...] = Field(
        (), description="weights to keep fixed, by prefixes of their names; with lora, weights without low-rank changes"
    )
    iterations: int = Field(5, ge=1, le=100, description="largest number of steps of method gauss_newton")
    lora_rank: int = Field(8, ge=1, le=1024, description="rank of the changes of method lora")
    lora_scale: float = Field(1.0, gt=0, description="factor of the changes of method lora")
    lora_targets: tuple[str, ...] = Field(
        (), description="weights that method lora changes, by prefixes of their names; empty: all linear layers"
    )

    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate from each layer of the network to the layer below; 1: equal rates",
    )
    replay: Annotated[int, Field(ge=1, le=10**7)] | str | None = Field(
        None,
        description="frames that init_from labels itself, mixed into the batches: the number of frames to make by "
        "short dynamics from the training structures, or a file of structures; empty: none",
    )
    replay_share: float = Field(0.25, gt=0, lt=1, description="fraction of each batch that are replay frames")
    replay_temperature: float = Field(
        500.0, gt=0, le=5000, description="temperature of the dynamics that makes replay frames [K]"
    )

    @property
    def training_method(self) -> Literal["full", "lora", "freeze", "gauss_newton"]:
        """Method that is used: `method`, or the method that follows from `freeze`."""
        return self.method or ("freeze" if self.freeze else "full")

    @model_validator(mode="after")
    def _check_together(self) -> "StartConfig":
        if self.method == "freeze" and not self.freeze:
            raise ConfigError(
                "start.method: freeze requires weights to keep fixed: set start.freeze, for instance to [embedding]"
            )
        if self.method == "full" and self.freeze:
            raise ConfigError("start.method: full trains all weights: remove start.freeze, or set start.method: freeze")
        if self.method in ("lora", GAUSS_NEWTON) and self.init_from is None:
            raise ConfigError(f"start.method: {self.method} changes the weights of a trained file: set start.init_from")
        if self.method != GAUSS_NEWTON and self.iterations != type(self).model_fields["iterations"].default:
            raise ConfigError("start.iterations has no effect: remove it, or set start.method: gauss_newton")
        for key in ("lora_rank", "lora_scale", "lora_targets"):
            if self.method != "lora" and getattr(self, key) != type(self).model_fields[key].default:
                raise ConfigError(f"start.{key} has no effect: remove it, or set start.method: lora")
        if self.method == GAUSS_NEWTON:
            for key, default in (("layer_decay", 1.0), ("replay", None)):
                if getattr(self, key) != default:
                    raise ConfigError(f"start.{key} has no effect with start.method: {GAUSS_NEWTON}: remove it")
        if self.layer_decay != 1.0 and self.init_from is None:
            raise ConfigError("start.layer_decay slows the lower layers of a trained file: set start.init_from")
        if self.replay is not None and self.init_from is None:
            raise ConfigError("start.replay: frames are labeled by the start model: set start.init_from")
        if self.replay is None and self.replay_share != type(self).model_fields["replay_share"].default:
            raise ConfigError("start.replay_share has no effect: remove it, or set start.replay")
        made = isinstance(self.replay, int)
        if not made and self.replay_temperature != type(self).model_fields["replay_temperature"].default:
            raise ConfigError("start.replay_temperature has no effect: remove it, or set start.replay to a number")
        return self


def _imported(modules: tuple[str, ...]) -> tuple[str, ...]:
    import_modules(modules)
    return modules


class TrainingConfig(Section):
    """Complete configuration of a training run."""

    data: DataConfig = Field(DataConfig(), description="which frames to use")
    # Must precede `model`: pydantic validates fields in order, and `model` needs the registered networks.
    imports: Annotated[tuple[str, ...], AfterValidator(_imported)] = Field(
        (), description="Python modules to import first, which register networks of your own; their code is executed"
    )
    model: ModelConfig = Field(ModelConfig(), description="which energy network, and its options")
    start: StartConfig = Field(StartConfig(), description="what training starts from")
    loss: LossConfig = Field(LossConfig(), description="coefficients and options of the loss terms")
    teacher: TeacherConfig = Field(TeacherConfig(), description="a trained model whose predictions replace labels")
    displacement: DisplacementConfig = Field(DisplacementConfig(), description="displacements of the copies")
    contrast: ContrastConfig = Field(ContrastConfig(), description="dynamics of the loss term `contrast`")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="how the weights are optimized")
    seed: Seed = Field(0, description="seed of the split, the weights, the order of the frames and the displacements")
    dtype: Literal["float32", "float64", "bf16-mixed"] = Field(
        "float32", description="float type of the network; bf16-mixed computes in bfloat16 with float32 weights"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="device")
    deterministic: bool = Field(False, description="allow only algorithms that return the same bits in every run")
    threads: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="CPU threads; empty: the fastest number, measured during the run (all with `deterministic`)",
    )

    @property
    def mixed_precision(self) -> bool:
        """Whether the network computes in a lower precision than the precision of its weights."""
        return self.dtype == "bf16-mixed"

    @property
    def weights_dtype(self) -> str:
        """Float type of the weights and of the trained file."""
        return "float64" if self.dtype == "float64" else "float32"


def check_seeds(seeds: Sequence[int]) -> None:
    """Check the seeds of an ensemble.

    Raises:
        ConfigError: There are no seeds, a seed is out of range, or a seed occurs twice.
    """
    integers = all(isinstance(seed, int) and 0 <= seed <= LARGEST_SEED for seed in seeds)
    if not seeds or not integers or len(set(seeds)) < len(seeds):
        given = shortened(",".join(map(str, seeds)), 60)
        raise ConfigError(f"seeds={given}: the seeds must be distinct integers from 0 to {LARGEST_SEED}")


def load_config(
    path: Path | None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Read a training configuration from a file, see `piwsl.runs.config.load`.

    Raises:
        ConfigError: The file does not contain a YAML mapping, a key is unknown, or a value is out of range.
    """
    return load(TrainingConfig, path, overrides, base)


def template() -> str:
    """Return the default configuration as YAML, with a comment that describes each key."""
    return commented_yaml(TrainingConfig, _described)


def _described(section: BaseModel) -> dict[str, tuple[Any, str]]:
    """Return the value and the description of each key of a section."""
    if not isinstance(section, ModelConfig):
        return described_fields(section)
    described = {**section.described(), **described_fields(section)}
    network, description = described["network"]
    return {**described, "network": (network, f"{description} (one of {', '.join(registered_networks())})")}
