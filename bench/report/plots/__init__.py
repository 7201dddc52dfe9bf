"""Pictures of a run; each module draws those of one kind."""

import os

# A person's choice of where pictures appear may be of no use here, or not even installed; these go into files.
os.environ["MPLBACKEND"] = "Agg"
