# %% [markdown]
# # Train, export, run and analyze
#
# A small potential for the bundled aspirin, in about two minutes on two CPU cores. The cells run in Jupyter, in VS Code
# and as a script; each result displays itself in a notebook. A good potential needs longer training:
# see the configuration `piwsl/resources/aspirin_bundled.yaml`.

# %%
import piwsl

# %%
result = piwsl.train(
    "aspirin",
    output="quickstart/train",
    force=True,
    options={
        "data.train": 400,
        "data.validation": 50,
        "model.channels": 32,
        "model.layers": 2,
        "loss.cadence": 10,
        "optimizer.steps": 400,
        "optimizer.validation_interval": 100,
    },
)
result

# %%
exported = piwsl.export_model(result.model, target="openmm", system="aspirin", force=True)
exported

# %% [markdown]
# A stop rule would end the run with an error; here a violation is recorded and shown with the result.

# %%
run = piwsl.run_md(
    "aspirin",
    exported,
    output="quickstart/md",
    force=True,
    steps=4000,
    trajectory_interval=20,
    temperature=300,
    on_stop="record",
)
run

# %%
analysis = piwsl.analyze(run.directory, output="quickstart/analysis")
print(analysis.verdict)
analysis
