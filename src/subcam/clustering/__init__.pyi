"""The public names of `subcam.clustering`."""

from subcam.clustering.choose_k import discover_adaptive_subcategories as discover_adaptive_subcategories
from subcam.clustering.clusters_csv import read_clusters as read_clusters
from subcam.clustering.clusters_csv import write_clusters as write_clusters
from subcam.clustering.features import extract_features as extract_features
from subcam.clustering.subcategories import Subcategories as Subcategories
from subcam.clustering.subcategories import discover_subcategories as discover_subcategories
