"""What the tests of methods share."""

from methods.plugins import module as module
