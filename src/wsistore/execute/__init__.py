"""How many workers: runs independent tasks here, in processes of this machine, or on Dask.

Import from here. One small contract (`Executor`), three implementations of it, and `open_executor`, which chooses. A
task is a picklable value, and the function a module's own; both may run twice, for a worker that dies takes what it was
doing with it. Dask is imported only where it is used.
"""

from wsistore.execute.base import Done, Executor
from wsistore.execute.choose import Engine, open_executor
from wsistore.execute.processes import ProcessExecutor
from wsistore.execute.serial import SerialExecutor

__all__ = ["Done", "Engine", "Executor", "ProcessExecutor", "SerialExecutor", "open_executor"]
