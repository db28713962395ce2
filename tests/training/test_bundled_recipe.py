"""The recipe of the bundled model stays the recipe of the file, whatever the defaults become."""

from piwsl.data.systems import RESOURCES, SYSTEMS
from piwsl.export.trained_file import load_trained
from piwsl.training.config import load_config
from piwsl.training.presets import with_coefficients


def test_the_configuration_is_that_of_the_bundled_model():
    stored = load_trained(SYSTEMS["aspirin"].model)
    config = with_coefficients(load_config(RESOURCES / "aspirin_bundled.yaml"))
    kept = {"walls"}  # a file without the key, which was added later: none
    for key, value in config.model.model_dump().items():
        assert key in kept or getattr(stored.config, key) == value, key
    for key in ("energy", "forces", "pitc", "pisc", "mixing", "detach", "cadence"):
        assert getattr(config.loss, key) == stored.training["loss"][key], key
