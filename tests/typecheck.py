"""The run-time checker of the tests: shapes and types of all functions of subcam; an int is a float (PEP 484)."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
