"""`python -P -m samebits.runner`: the entrypoint of image and virtual environment."""

import sys

try:
    from samebits.runner.entrypoint import main

    sys.exit(main())
except KeyboardInterrupt:  # before there was a record to finalize
    sys.exit(130)
