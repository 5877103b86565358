"""The public names of `subcam.cam`."""

from subcam.cam.map_files import read_response_maps as read_response_maps
from subcam.cam.map_files import write_response_maps as write_response_maps
from subcam.cam.multiscale import ImageResponse as ImageResponse
from subcam.cam.multiscale import multiscale_response as multiscale_response
from subcam.cam.response import aggregate_response_maps as aggregate_response_maps
from subcam.cam.response import background_score as background_score
from subcam.cam.response import response_maps as response_maps
from subcam.cam.threshold import ChosenThreshold as ChosenThreshold
from subcam.cam.threshold import SplitShares as SplitShares
from subcam.cam.threshold import choose_threshold as choose_threshold
from subcam.cam.threshold import split_shares as split_shares
