"""`python -m reconfmri` is `reconfmri`."""

import sys

from reconfmri.cli import main

sys.exit(main())
