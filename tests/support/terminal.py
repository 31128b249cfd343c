"""Standard error as a user has it."""

from __future__ import annotations

import io


class Terminal(io.StringIO):
    """For `redirect_stderr`: standard error as a user has it, on which progress bars are drawn."""

    def isatty(self) -> bool:
        """What tqdm asks."""
        return True
