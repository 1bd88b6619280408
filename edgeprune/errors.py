"""The exceptions edgeprune raises on purpose.

    EdgepruneError                 something the user can mend; exit code 2
      CaptureError                 torch.export refused the model
      ModelError                   a model, weights or input that cannot be used
      DataError                    a data set that cannot be used
      TargetError                  a target profile that is wrong or unknown
      PlanError                    a plan that does not fit its graph
      LoweringError                the backend refused the graph
      MeasureError                 a program could not be run on the target
      EnvironmentProblem           versions that do not belong together
      OutputError                  a directory that cannot be written or is not ours
      BudgetError                  the budget cannot be met; exit code 3

Anything else that escapes is a bug of ours: traceback, exit code 1.
"""

from __future__ import annotations


class EdgepruneError(Exception):
    """Something the user can mend. The message says what is wrong, where, and how to mend it."""

    exit_code = 2


class CaptureError(EdgepruneError):
    """`torch.export` refused the model; the message carries its reason and the user's line."""


class ModelError(EdgepruneError):
    """A model, its weights or its input shape cannot be used."""


class DataError(EdgepruneError):
    """A data set cannot be found, is empty, or does not fit the model."""


class TargetError(EdgepruneError):
    """A target profile is unknown or wrong; every problem of a file is listed at once."""


class PlanError(EdgepruneError):
    """A plan does not fit the graph it is applied to."""


class LoweringError(EdgepruneError):
    """The target's backend refused the graph."""


class MeasureError(EdgepruneError):
    """A program could not be run or timed on the target."""


class EnvironmentProblem(EdgepruneError):
    """Installed packages do not belong together; `edgeprune doctor` says how to mend it."""


class OutputError(EdgepruneError):
    """An output directory cannot be written, or holds something that is not a run of ours."""


class BudgetError(EdgepruneError):
    """The budget cannot be met, was missed, or cannot be decided; says the smallest reachable."""

    exit_code = 3
