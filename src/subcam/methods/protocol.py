"""What a method is: how response maps are made, how they are refined, and by which losses a network learns.

Each of the three is a function, and what a method does not say is as in plain CAM. Ours (`methods/built_in.py`) are
made in the same way as anybody's.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.cam.settings import CamSettings
from subcam.checks.fields import Settings
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork
from subcam.runtime.run_folder import Keyed

MakesMaps = Callable[[ClassificationNetwork, Tensor, Tensor, CamSettings], Sequence[Tensor | ImageResponse]]
"""Makes response maps.

Given: the network in evaluation mode; images of one size, uint8 [images, 3, height, width], RGB, on its device; their
labels, multi-hot [images, classes], on the CPU; the run's settings of response maps. Returns for each image a float
tensor [present, height, width] in 0..1, of the classes that its labels name, in rising order. Gradients are on.
"""

RefinesMaps = Callable[[ClassificationNetwork, Tensor, Tensor, Tensor], Tensor]
"""Refines one image's response maps.

Given: the network in evaluation mode; the image, uint8 [3, height, width]; its maps, float [present, height, width] in
0..1; the classes that they are of, whole numbers [present]. Returns maps of the same shape and range.
"""

Losses = Callable[[ClassificationNetwork, Tensor, Tensor], dict[str, Tensor]]
"""Says what a network has to learn from a batch.

Given: the network in training mode; crops, uint8 [batch, 3, crop, crop]; their labels, multi-hot [batch, classes].
Returns "loss", which is minimised, and whatever parts of it the log should show; each a single number.
"""

_NAME = re.compile(r"[a-z0-9][a-z0-9+-]{0,39}")
_LONGEST_TITLE = 40


def over_scales(respond: Callable[..., list[ImageResponse]]) -> MakesMaps:
    """What makes maps, from a function with the arguments of `multiscale_response`."""

    def maps(
        network: ClassificationNetwork, images: Tensor, labels: Tensor, settings: CamSettings
    ) -> list[ImageResponse]:
        return respond(
            network,
            images,
            labels,
            scales=settings.scales,
            flip=settings.flip,
            subcategories=settings.subcategory_maps,
            attention_layers=settings.attention_layers,
            attention_steps=settings.attention_steps,
        )

    return maps


plain_maps = over_scales(multiscale_response)
"""Class activation maps over scales and flips (Eq. 1), or those of a network's prototypes."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method, to be compared with plain CAM in Table 1.

    Attributes:
        name: of its stages' folders: small letters, digits, "-" and "+".
        title: what tables call it; its name if it is empty.
        version: of what it computes; raise it when that changes and its module's source does not.
        maps: makes response maps; of itself class activation maps (Eq. 1).
        refine: refines each image's maps; None leaves them.
        losses: what its network learns by, as long as round 0 and on the same crops; None takes the network of round 0.
        num_subcategories: sub-categories a parent of the network that `losses` train: 1 gives it a second classifier,
            `network.subcategory_head`.
        batched: whether `maps` takes several images at once; else each comes alone.
        needs: finds out, before anything is computed, whether what the method needs is installed; raises if not.
        options: settings that decide its results beside its code.
    """

    name: str
    title: str = ""
    version: int | str = 1
    maps: MakesMaps = field(default=plain_maps)
    refine: RefinesMaps | None = None
    losses: Losses | None = None
    num_subcategories: int = 0
    batched: bool = False
    needs: Callable[[], Any] | None = None
    options: Settings | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise SettingsError(f'name: expected at most 40 small letters, digits, "-" and "+", got {self.name!r:.60}')
        if not isinstance(self.title, str) or len(self.title) > _LONGEST_TITLE or not (self.title or "-").isprintable():
            raise SettingsError(f"title: expected at most 40 printable characters, got {self.title!r:.60}")
        if isinstance(self.version, bool) or not isinstance(self.version, int | str):
            raise SettingsError(f"version: expected a whole number or text, got {self.version!r:.60}")
        for part in ("maps", "refine", "losses", "needs"):
            value = getattr(self, part)
            if not callable(value) and (value is not None or part == "maps"):
                raise SettingsError(f"{part}: expected a function, got {value!r:.60}")
        if isinstance(self.num_subcategories, bool) or not (
            isinstance(self.num_subcategories, int) and 0 <= self.num_subcategories <= 10_000
        ):
            raise SettingsError(
                f"num_subcategories: expected a whole number from 0 to 10000, got {self.num_subcategories!r:.60}"
            )
        if self.options is not None and not isinstance(self.options, Settings):
            raise SettingsError(f"options: expected a group of settings or none, got {self.options!r:.60}")
        object.__setattr__(self, "title", self.title or self.name)


@dataclass(frozen=True, kw_only=True)
class ChosenMethod(Keyed):
    """A method that a run asks for, and where it comes from.

    reference: how the run names it. source: digest of the code of somebody else's; "" of ours, whose code the versions
    of stages stand for.
    """

    method: Method
    reference: str
    source: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether this package has it."""
        return not self.source

    @property
    def key(self) -> Any:
        """What decides the maps that it makes."""
        if self.is_ours:
            return self.method.name
        method = self.method
        return {"name": method.name, "version": method.version, "source": self.source, "options": method.options}

    @property
    def training(self) -> "MethodTraining | None":
        """How it trains a network; None where it takes that of round 0."""
        return None if self.method.losses is None else MethodTraining(chosen=self)


@dataclass(frozen=True, kw_only=True)
class MethodTraining(Keyed):
    """The training of a method's own network."""

    chosen: ChosenMethod

    @property
    def key(self) -> Any:
        """What decides the network that it trains."""
        return self.chosen.method.options if self.chosen.is_ours else self.chosen.key
