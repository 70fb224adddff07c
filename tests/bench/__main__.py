"""`python -m tests.bench`: see `bench.py`."""

import sys

from tests.bench.bench import main

if __name__ == "__main__":
    sys.exit(main())
