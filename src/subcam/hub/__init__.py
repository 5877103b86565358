"""Networks as folders that model hubs take, with a generated card: `write_folder`, `push` and `load`."""

from subcam.hub.folder import CARD_FILE, FILES, FolderSettings, fetch, load, push, write_folder

__all__ = ["CARD_FILE", "FILES", "FolderSettings", "fetch", "load", "push", "write_folder"]
