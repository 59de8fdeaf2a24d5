"""Entry point of `python -m samebits`."""

import sys

from samebits.host.cli.parser import main

sys.exit(main())
