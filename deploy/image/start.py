"""What the image's `berth` runs: `launch.c` names this file."""

import sys

from agent.cli.main import main

sys.exit(main())
