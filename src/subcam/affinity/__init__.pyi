"""The public names of `subcam.affinity`."""

from subcam.affinity.labels import PairLabels as PairLabels
from subcam.affinity.labels import affinity_label_map as affinity_label_map
from subcam.affinity.labels import pair_labels as pair_labels
from subcam.affinity.loss import affinity_loss as affinity_loss
from subcam.affinity.network import AffinityConfig as AffinityConfig
from subcam.affinity.network import AffinityNetwork as AffinityNetwork
from subcam.affinity.pairs import pair_offsets as pair_offsets
from subcam.affinity.random_walk import PixelAffinity as PixelAffinity
from subcam.affinity.random_walk import pixel_affinity as pixel_affinity
from subcam.affinity.random_walk import random_walk as random_walk
