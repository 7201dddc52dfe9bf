"""Pictures of a run; each module draws those of one kind.

This package loads matplotlib, and has to be imported before anything of ours that needs it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, nullcontext

_NO_SETTINGS = os.path.dirname(os.__file__)  # a folder without files of matplotlib's


def _load_matplotlib() -> None:
    """Import matplotlib as its makers set it up: a person's settings neither change a figure nor cost a report.

    Their MPLBACKEND may be an old name, or of a package that isn't installed; their matplotlibrc or one of their
    styles may not be UTF-8. Each of these ends matplotlib's import. Environment and folder are theirs again afterwards.
    """
    if "matplotlib" not in sys.modules:
        # It looks into the current folder first. Where that holds no such file it stays: other threads may need it.
        away = chdir(_NO_SETTINGS) if os.path.exists("matplotlibrc") else nullcontext()
        with _environment(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull), away:
            import matplotlib
    import matplotlib

    theirs = matplotlib.get_configdir
    matplotlib.get_configdir = lambda: _NO_SETTINGS  # where styles are read from
    try:
        import matplotlib.style
    finally:
        matplotlib.get_configdir = theirs


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Environment variables set for as long as that lasts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


_load_matplotlib()
