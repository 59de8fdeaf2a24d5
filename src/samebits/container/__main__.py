"""`python -P -m samebits.container`: the entrypoint of image and virtual environment."""

import sys

from samebits.container.entrypoint import main

sys.exit(main())
