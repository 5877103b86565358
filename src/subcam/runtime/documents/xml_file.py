"""XML files as trees, read without trust: no other file is fetched, and what is wrong is one error."""

from pathlib import Path
from xml.etree import ElementTree

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import read_bytes


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file.

    Raises:
        OSError: there is no such file, or it may not be read.
        BadInputError: it is no XML, or in an encoding that is not read; names it.
    """
    data = read_bytes(path)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise BadInputError(
            f"{path}: expected an XML file in UTF-8, got one that cannot be read ({error}); write it again"
        ) from error
