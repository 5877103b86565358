"""The public names of `subcam.predict`."""

from subcam.predict.find_model import find_model as find_model
from subcam.predict.from_python import predict as predict
from subcam.predict.run import PredictResult as PredictResult
from subcam.predict.settings import InferenceSettings as InferenceSettings
from subcam.predict.settings import PredictSettings as PredictSettings
from subcam.predict.tiles import segment_labels as segment_labels
from subcam.predict.tiles import segment_probabilities as segment_probabilities
