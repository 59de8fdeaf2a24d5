"""The fingerprint with the GPU in sight: the digests of about a hundred operations under the profile's settings."""

import json
import sys

from samebits.core.determinism_profile import make_profile
from samebits.core.jsonio import differing_names
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.fingerprint import fingerprint
from samebits.runner.determinism.settings import prepare_environment, seed_everything

with Patches() as patches:
    profile = make_profile("native", device=sys.argv[1])
    prepare_environment(profile, patches)
    import tensorflow as tf

    seed_everything(0, profile, patches)
    first, second = fingerprint(), fingerprint()
print(
    json.dumps(
        {
            "devices": [device.name for device in tf.config.list_logical_devices()],
            "operations": first,
            "differ_in_one_process": differing_names(first, second),
        }
    )
)
