"""`python -m samebits`."""

import sys

from samebits.host.cli import main

sys.exit(main())
