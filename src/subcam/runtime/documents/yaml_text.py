"""YAML as texts, lists and dicts, whatever stands in it: nothing becomes an object, and every scalar is text.

So a class may be called `no`, `on`, `1e3` or `null`. What the library raises is one kind of error here.
"""

from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]

MOST_BYTES = 1_000_000
"""Of a text; a list of fifty thousand names has less."""

MOST_LEVELS = 50


class _Texts(yaml.SafeLoader):
    """Reads plain scalars as the texts that they are, and refuses a key that stands twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node with all in it, unless it is nested deeper than any list of names."""
        self.depth += 1
        if self.depth > MOST_LEVELS:
            raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A dict of the node's keys."""
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise ValueError("a key stands twice")
        return mapping


def loads(text: bytes) -> Any:
    """What a text in YAML says, in UTF-8 or UTF-16 with its mark: texts, lists, dicts, and "" where nothing stands.

    Raises:
        ValueError: it is no YAML, is nested too deep, longer than a megabyte, or has a key twice.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    try:
        return _Texts(text).get_single_data()
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
