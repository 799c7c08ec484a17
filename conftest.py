"""Keeps the site key of the person who runs the tests out of them."""

import os
import tempfile

os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="medaug-tests-")
