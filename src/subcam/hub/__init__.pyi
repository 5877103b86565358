"""The public names of `subcam.hub`."""

from subcam.hub.folder import CARD_FILE as CARD_FILE
from subcam.hub.folder import FILES as FILES
from subcam.hub.folder import FolderSettings as FolderSettings
from subcam.hub.folder import fetch as fetch
from subcam.hub.folder import load as load
from subcam.hub.folder import push as push
from subcam.hub.folder import write_folder as write_folder
