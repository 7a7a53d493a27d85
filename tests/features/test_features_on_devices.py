"""Two devices train what one does, of features too."""

import pytest

from tests.distributed.test_strategies import assert_same_result, flags, losses_of, train_alone
from tests.features.test_runs_with_features import fixture_dataset  # noqa: F401


@pytest.mark.long
def test_features_on_two_mirrored_devices_train_as_on_one(tmp_path, dataset):
    """The same item may be asked for by both: the rows of their gradients are added up."""
    places = {"one_device": tmp_path / "one_device", "mirrored": tmp_path / "mirrored"}
    for strategy, run in places.items():
        arguments = flags(dataset, run, strategy=strategy, method="base", id_dropout=0.0)
        train_alone(arguments, TWO_DEVICES="1")
    assert losses_of(places["mirrored"]) == pytest.approx(losses_of(places["one_device"]), rel=1e-4)
    assert_same_result(places["mirrored"], places["one_device"])
