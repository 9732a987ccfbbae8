import pytest
from tiny_voc import make_tiny_records

from oaa_tf.data.records.record_set import RecordSet


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSet:
    """Four images with three classes, one image with two of them."""
    return make_tiny_records(tmp_path_factory.mktemp("records"))
