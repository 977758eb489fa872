"""``python -m spcnn_lightning`` is the command ``spcnn``."""

import sys

from spcnn_lightning.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
