"""Which other methods a run computes beside its rounds, and the settings of ours."""

import re
from dataclasses import dataclass, field
from typing import Annotated

from subcam.checks.fields import Alias, Entries, Settings
from subcam.comparisons.settings import EquivarianceSettings, ErasingSettings
from subcam.errors import SettingsError

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_code(reference: str) -> bool:
    """Whether a method is named by where its code is, `package.module:name`."""
    return ":" in reference


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Response maps of other methods, to stand beside those of the rounds in Table 1.

    Attributes:
        methods: which, all after one flag: "grad-cam++" and "layer-cam" take the network of round 0 and need the extra
            `compare`; "erasing" and "equivariance" train a network of their own, as long as round 0 and on the same
            crops; names that installed packages have registered; and package.module:name, whose code is run
            (docs/own-method.md).
        refine: whether each method's maps become pseudo masks too, by the steps and settings of the rounds that are
            refined: CRF, AffinityNet, random walk. They are scored, and no network of this run learns from them.
    """

    methods: Annotated[tuple[str, ...], Entries(most=100), Alias("--method")] = ()
    refine: bool = False
    erasing: ErasingSettings = field(default_factory=ErasingSettings)
    equivariance: EquivarianceSettings = field(default_factory=EquivarianceSettings)

    def check_together(self) -> None:
        """Each method comes once, and is named as methods can be."""
        if len(set(self.methods)) < len(self.methods):
            raise SettingsError(f"expected each of methods once, got {' '.join(self.methods)}")
        for reference in self.methods:
            if not reference or (is_code(reference) and not _MODULE.fullmatch(reference)):
                raise SettingsError(
                    f"expected each of methods to be a name or package.module:name, got {reference!r:.60}; NAME of a"
                    " file my_methods.py in this folder is my_methods:NAME"
                )
