"""Settings of the stage that trains a classifier."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from subcam.checks.fields import BatchSize, Entries, Epochs, Settings, Share, Steps, Weight
from subcam.data.settings import AugmentationSettings
from subcam.networks.networks_of_run import weights_digest
from subcam.runtime.run_folder import by_content
from subcam.training.settings import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(Settings):
    """Settings of classifier training. Numbers of the paper and of its published code are in `recipes.py`.

    Attributes:
        epochs: passes over the images in round 0, and of the later rounds unless `round_epochs` says otherwise.
        round_epochs: epochs of rounds 1, 2, ...; the last entry holds for all after it.
        schedule_epochs: epochs after which the learning rate reaches its end; 0 means the round's own. The published
            code plans 61 and stops rounds 1-3 at 30, 40 and 50.
        least_steps: epochs are multiplied where they have fewer steps than this, as those of a few dozen images.
        batch_size: images of a step.
        subcategory_weight: weight of the sub-categories' loss, lambda of Eq. 3.
        prototype_weight: weight of the prototype classifier's loss, where positions are labelled (not in the paper).
        start: whether each round starts from the pretrained weights with new heads ("restart", the published code) or
            goes on with E and H_p of the round before and a new H_s ("continue", Algorithm 1 as it reads).
        round0_checkpoint: a classifier to take as round 0 instead of training it; empty to train. The folder of one
            that subcam saved, or of a run, whose last is meant; the weights of a timm model of the network's name with
            a classifier of the classes in their order; or a published one on ResNet-38 (AffinityNet's or SC-CAM's
            .pth).
        head_dropout: share of channels of the feature map dropped in training; 0.5 in the published code.
    """

    epochs: Epochs = 5
    round_epochs: Annotated[tuple[Epochs, ...], Entries(most=1000)] = ()
    schedule_epochs: Epochs = 0
    least_steps: Steps = 0
    batch_size: BatchSize = 16
    subcategory_weight: Weight = 5.0
    prototype_weight: Weight = 0.3
    start: Literal["restart", "continue"] = "restart"
    round0_checkpoint: str = field(default="", metadata=by_content(weights_digest))
    head_dropout: Share = 0.0
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def of_round(
        self, round_index: int, *, with_subcategories: bool, with_prototypes: bool = False
    ) -> "ClassifySettings":
        """The settings that bear on one round: its own epochs, and no weight of what is not there to be learned.

        What bears on other rounds alone takes its default, so that changing it does not make this round train again.
        """
        epochs = self.epochs
        if round_index and self.round_epochs:
            epochs = self.round_epochs[min(round_index, len(self.round_epochs)) - 1]
        ready = self.round0_checkpoint if round_index == 0 else ""
        return replace(
            self,
            epochs=0 if ready else epochs,
            round0_checkpoint=ready,
            round_epochs=(),
            subcategory_weight=self.subcategory_weight if with_subcategories else 0.0,
            prototype_weight=self.prototype_weight if with_prototypes else 0.0,
            start=self.start if round_index else "restart",
        )
