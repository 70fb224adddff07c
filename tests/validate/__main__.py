"""`python -m tests.validate`: see `validate.py`."""

import sys

from tests.validate.validate import main

if __name__ == "__main__":
    sys.exit(main())
