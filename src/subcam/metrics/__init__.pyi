"""The public names of `subcam.metrics`."""

from subcam.metrics.agreement import Agreement as Agreement
from subcam.metrics.confusion import confusion_matrix as confusion_matrix
from subcam.metrics.folders import FolderScores as FolderScores
from subcam.metrics.folders import score_folders as score_folders
from subcam.metrics.masks_csv import read_confidences as read_confidences
from subcam.metrics.scores import Scores as Scores
from subcam.metrics.scores import class_average_precision as class_average_precision
from subcam.metrics.scores import mean_average_precision as mean_average_precision
from subcam.metrics.scores import scores as scores
from subcam.metrics.threshold_sweep import BestThreshold as BestThreshold
from subcam.metrics.threshold_sweep import ThresholdSweep as ThresholdSweep
