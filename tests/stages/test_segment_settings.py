"""Which network the settings of segmentation stand for."""

import pytest

from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.stages.segment_settings import SegmentSettings

RUN = NetworkSettings(
    name="mobilenetv2_100", weights="w.safetensors", neck_channels=512, freeze=("conv_stem",), mean=(0.1, 0.2, 0.3)
)


def test_same_is_the_runs_network_without_what_is_the_classifiers() -> None:
    settings = SegmentSettings(network=NetworkSettings(name="same", output_stride=16), multi_scale_inputs=(0.5, 0.75))
    found = settings.config(run_network=RUN, class_names=("cat",))
    assert found.network == NetworkSettings(
        name="mobilenetv2_100", weights="w.safetensors", output_stride=16, mean=(0.1, 0.2, 0.3)
    )
    assert (found.class_names, found.architecture, found.multi_scale_inputs) == (("cat",), "deeplabv2", (0.5, 0.75))
    assert SegmentSettings().config(run_network=RUN, class_names=("cat",)).network.output_stride is None


def test_a_network_of_its_own_is_taken_as_it_is() -> None:
    own = NetworkSettings(name="resnet101", weights="coco.pth", output_stride=8)
    settings = SegmentSettings(network=own, architecture="deeplabv3plus")
    found = settings.config(run_network=RUN, class_names=("cat",))
    assert found.network == own
    assert found.architecture == "deeplabv3plus"


def test_each_kind_of_mask_is_trained_on_once() -> None:
    assert SegmentSettings(train_on=()).train_on == ()
    with pytest.raises(SettingsError, match="expected each kind of mask once in train_on, got pseudo pseudo"):
        SegmentSettings(train_on=("pseudo", "pseudo"))
