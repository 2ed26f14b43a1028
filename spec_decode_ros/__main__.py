"""`python -m spec_decode_ros` is the `spec-decode` command, also where scripts are not on the PATH."""

import sys

from spec_decode_ros.cli import main

sys.exit(main())
