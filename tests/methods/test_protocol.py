"""A method says what it is, and nothing that it could not mean."""

import dataclasses
from typing import Any

import pytest
import torch

from subcam.cam.multiscale import multiscale_response
from subcam.cam.settings import CamSettings
from subcam.comparisons.settings import ErasingSettings
from subcam.errors import SettingsError
from subcam.methods.protocol import ChosenMethod, Method, plain_maps
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings


def test_what_a_method_does_not_say_is_plain_cam() -> None:
    method = Method(name="a")
    assert (method.title, method.maps, method.refine, method.losses) == ("a", plain_maps, None, None)
    network = ClassificationNetwork(
        ModelConfig(network=NetworkSettings(name="tiny", weights="none"), class_names=("a", "b"))
    ).eval()
    images, labels = torch.randint(0, 256, (2, 3, 24, 40), dtype=torch.uint8), torch.tensor([[1, 0], [1, 1]])
    found = method.maps(network, images, labels, CamSettings(scales=(1.0, 0.5), flip=False))
    expected = multiscale_response(network, images, labels, scales=(1.0, 0.5), flip=False)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.maps, other.maps)  # type: ignore[union-attr]


def made_by_a_user(**values: Any) -> Method:
    """Without the tests' own check of types, which would be first."""
    method = object.__new__(Method)
    for entry in dataclasses.fields(Method):
        object.__setattr__(method, entry.name, values.get(entry.name, entry.default))
    method.__post_init__()
    return method


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": ""}, 'name: expected at most 40 small letters, digits, "-" and "+", got \'\''),
        ({"name": "../a"}, "name: expected at most 40"),
        ({"name": "A"}, "name: expected"),
        ({"name": "a" * 41}, "name: expected"),
        ({"name": "-a"}, "name: expected"),
        ({"name": None}, "name: expected"),
        ({"title": "a\n"}, "title: expected at most 40 printable characters"),
        ({"title": "a" * 41}, "title: expected"),
        ({"title": 1}, "title: expected"),
        ({"version": 1.5}, "version: expected a whole number or text, got 1.5"),
        ({"version": True}, "version: expected"),
        ({"maps": None}, "maps: expected a function, got None"),
        ({"maps": 3}, "maps: expected a function, got 3"),
        ({"refine": 3}, "refine: expected a function"),
        ({"losses": "x"}, "losses: expected a function"),
        ({"needs": 1}, "needs: expected a function"),
        ({"num_subcategories": -1}, "num_subcategories: expected a whole number from 0 to 10000, got -1"),
        ({"num_subcategories": True}, "num_subcategories: expected"),
        ({"options": {"a": 1}}, "options: expected a group of settings or none"),
    ],
)
def test_what_no_method_is(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        made_by_a_user(**{"name": "a", **wrong})
    assert str(error.value).startswith(message)


def test_somebody_else_s_is_known_by_its_code_and_ours_by_its_name() -> None:
    method = Method(name="a", version="2b", losses=lambda *_: {}, options=ErasingSettings(threshold=0.5))
    ours = ChosenMethod(method=method, reference="a")
    assert (ours.key, ours.training and ours.training.key) == ("a", method.options)
    theirs = ChosenMethod(method=method, reference="m:A", source="12ab")
    expected = {"name": "a", "version": "2b", "source": "12ab", "options": method.options}
    assert theirs.key == expected
    assert theirs.training is not None
    assert theirs.training.key == expected
    assert ChosenMethod(method=Method(name="a"), reference="a").training is None
