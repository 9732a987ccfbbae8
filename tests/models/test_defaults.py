"""What is a default in more than one place is the same everywhere."""

import inspect

import pytest

from oaa_tf.command_line.settings import Settings
from oaa_tf.models.class_aware import class_aware_network
from oaa_tf.models.largefov import largefov_network
from oaa_tf.models.networks import NetworkDescription
from oaa_tf.models.optimizer import paper_optimizer
from oaa_tf.train_cls import TrainClsSettings
from oaa_tf.train_integral import TrainIntegralSettings
from oaa_tf.train_seg import TrainSegSettings


def default(function, name: str) -> object:
    return inspect.signature(function).parameters[name].default


@pytest.mark.parametrize("settings", [TrainClsSettings, TrainIntegralSettings, TrainSegSettings])
def test_functions_have_the_defaults_of_the_stages(settings: type[Settings]) -> None:
    for function in (class_aware_network, largefov_network, NetworkDescription.build):
        assert default(function, "initializer") == default(settings, "initializer") == "gaussian"
    for name in ("momentum", "new_layer_multiplier", "clip_norm"):
        assert default(paper_optimizer, name) == default(settings, name), name
