"""Where data comes from: a table by scheme."""

from __future__ import annotations

from edgeprune.data.digits import digits
from edgeprune.data.folder import imagefolder
from edgeprune.data.records import Data, DataRequest
from edgeprune.data.torchvision_sets import torchvision_set
from edgeprune.data.user import user_loaders
from edgeprune.errors import DataError
from edgeprune.records import Progress, silent
from edgeprune.usercode import close_matches

FORMS = "digits, imagefolder:DIR, torchvision:CLASS:ROOT, or file.py:function"
SOURCES = {
    "digits": digits,
    "imagefolder": imagefolder,
    "torchvision": torchvision_set,
}


def load_data(request: DataRequest, progress: Progress = silent) -> Data:
    """The data set that `request` names, split, normalised and in loaders.

    Validation data is always held out of the training data, never taken from the test data,
    unless the source has both of its own. Raises DataError if it cannot be found, is empty, or
    does not fit the sample shape wanted.
    """
    problems = []
    if request.batch_size < 1:
        problems.append(f"the batch size is {request.batch_size}: it must be 1 or more")
    if not 0 < request.val_fraction < 1:
        problems.append(f"val_fraction is {request.val_fraction}: it must lie between 0 and 1")
    if problems:
        raise DataError("; ".join(problems))
    scheme, colon, _ = request.spec.partition(":")
    if scheme in SOURCES:
        return SOURCES[scheme](request, progress)
    if colon:
        return user_loaders(request, progress)
    raise DataError(
        f"no such data: {request.spec!r}{close_matches(scheme, SOURCES)} (data is {FORMS})"
    )
