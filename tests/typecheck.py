"""The run-time checker of the tests: shapes and types of every function of subcam; an int is a float, as PEP 484 has it."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
