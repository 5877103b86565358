"""Somebody else's method tried before a run: on noise, by a network without training. A mistake costs seconds so."""

import torch

from subcam.cam.settings import CamSettings
from subcam.methods.compute import MethodLearner, responses_of
from subcam.methods.protocol import ChosenMethod
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings
from subcam.runtime.progress import say

IMAGE = (48, 64)
CROP = 64


def try_method(
    chosen: ChosenMethod, *, network: NetworkSettings, class_names: tuple[str, ...], settings: CamSettings
) -> None:
    """Have a method make maps of an image of noise, and losses of two crops; nothing where it is ours.

    Args:
        chosen: the method.
        network: of the run; its weights are random here.
        class_names: the classes; the first two are in the image.
        settings: of response maps.

    Raises:
        MethodError: as a run would, hours later.
    """
    if chosen.is_ours:
        return
    say(f"method {chosen.reference}: tried on noise")
    training = chosen.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ModelConfig(
            network=network,
            class_names=class_names,
            num_subcategories=chosen.method.num_subcategories if training else 0,
        )
        model = ClassificationNetwork(config, weights="none")
        labels = torch.zeros(2, len(class_names), dtype=torch.uint8)
        labels[:, :2] = 1
        if training is not None:
            crops = torch.randint(0, 256, (2, 3, CROP, CROP), dtype=torch.uint8)
            MethodLearner(model.train(), training)(crops, labels)["loss"].backward()
        model.zero_grad()
        image = torch.randint(0, 256, (1, 3, *IMAGE), dtype=torch.uint8)
        responses_of(chosen, model.eval(), image, labels[:1], settings=settings, names=["an image of noise"])
