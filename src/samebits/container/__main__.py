"""`python -P -m samebits.container`: the entrypoint of image and virtual environment."""

import sys

try:
    from samebits.container.entrypoint import main

    sys.exit(main())
except KeyboardInterrupt:  # before there was anything to seal
    sys.exit(130)
