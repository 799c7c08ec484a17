"""Keeps the tester's own site key out of the tests, and waiting threads from spinning."""

import os
import tempfile

os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="medaug-tests-")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as medaug.cli sets it
