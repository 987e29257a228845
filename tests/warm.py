"""Imported where commands of the tests are forked: what the first config takes to compose, done once for all."""

from hydra import compose, initialize_config_dir

from resnet_lab.config import hydra_block
from resnet_lab.config.compose import CONF, freeze, register_resolvers
from resnet_lab.sweeps.launcher import register_launchers

register_resolvers()
register_launchers()
hydra_block.register()
with initialize_config_dir(CONF, version_base="1.3"):
    freeze(compose("train", ["data=synthetic"]))
