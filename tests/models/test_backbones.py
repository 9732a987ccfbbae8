import keras
import pytest

from oaa_tf.models.backbones import BACKBONES, freeze_blocks


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_named_by_its_key(name: str) -> None:
    assert BACKBONES[name].build(2).name == name


@pytest.mark.parametrize(("num_blocks", "num_frozen"), [(0, 0), (1, 2), (2, 4), (3, 7), (5, 13)])
def test_freezing_blocks_of_vgg16(num_blocks: int, num_frozen: int) -> None:
    backbone = BACKBONES["vgg16"].build(2)
    freeze_blocks(backbone, num_blocks)
    convolutions = [layer for layer in backbone.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.trainable for layer in convolutions] == [False] * num_frozen + [True] * (13 - num_frozen)
    assert len(backbone.trainable_variables) == 2 * (13 - num_frozen)


# conv1, then three convolutions a block and one more in every stage's shortcut.
@pytest.mark.parametrize(("num_blocks", "num_frozen"), [(0, 0), (1, 1), (2, 11), (3, 24), (4, 94), (5, 104)])
def test_freezing_blocks_of_resnet101(num_blocks: int, num_frozen: int) -> None:
    backbone = BACKBONES["resnet101"].build(2)
    freeze_blocks(backbone, num_blocks)
    trained = [variable.path for variable in backbone.trainable_variables]
    assert len(trained) == 104 - num_frozen
    # No biases, no batch normalisation.
    assert all(path.endswith("_conv/kernel") for path in trained)
    assert all(int(path[4]) > num_blocks for path in trained)
