"""``python -m gpufn``: the same as the ``gpufn`` command."""

import sys

from gpufn.cli.main import main

sys.exit(main())
