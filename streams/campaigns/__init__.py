"""The file in which a shop's owners define segments, tiers, audiences and policy.

`document` reads it (`nodes` the YAML, `fields` what each value must be, `places` how an error shows
its line), `salts` keeps holdouts apart, `differences` says what a new file changes, and `written`
makes a file of definitions again.
"""

from streams.campaigns.differences import Difference, differences
from streams.campaigns.document import content_version, read_definitions, standard_file
from streams.campaigns.places import DocumentError, FileProblem
from streams.campaigns.written import written

__all__ = [
    "Difference",
    "DocumentError",
    "FileProblem",
    "content_version",
    "differences",
    "read_definitions",
    "standard_file",
    "written",
]
