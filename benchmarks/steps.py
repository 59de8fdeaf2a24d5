"""What a step of a small network costs beside plain Python, in processor time of one thread (about 7 minutes).

Its difference is 150 epochs, so that the ratio of a step is known more exactly than by the clock.
"""

import os
import shutil
from collections.abc import Iterator

from figures import Figure
from measuring import COMMAND, HERE, Options, interleaved, scratch
from overhead import EQUAL, OURS, actions_of, compared, plain_commands, splits, timing


def measure(options: Options) -> Iterator[Figure]:
    """Rounds of both contenders with both lengths. Each of the first eight epochs always has a checkpoint."""
    epochs = (10, 12) if options.small else (10, 160)
    with scratch() as folder:
        shutil.copy(HERE / "train_timed.py", folder / "train.py")
        command, variables = plain_commands(1)[EQUAL]
        words = (COMMAND, "train", "--runtime", "venv", "--threads", "1", "train.py", "--", "--dense")
        contenders = {EQUAL: ((*command, "--dense"), variables), OURS: (words, os.environ)}
        actions = actions_of(contenders, epochs, lambda command, variables: timing(command, variables, folder)[1])
        found = interleaved(actions, options.rounds_or(9), warm=1)
    yield from compared("processor time, one thread", splits(found, contenders, epochs), "s")
