"""Before torch is imported: threads sleep while they wait, so that tests do not fight over cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
