"""The public names of `subcam.crf`."""

from subcam.crf.dense_crf import DenseCRF as DenseCRF
from subcam.crf.dense_crf import dense_crf as dense_crf
from subcam.crf.dense_crf import dense_crf_many as dense_crf_many
from subcam.crf.dense_crf_torch import dense_crf_torch as dense_crf_torch
from subcam.crf.settings import CRFSettings as CRFSettings
