"""Settings for work on many images, which several commands share."""

import dataclasses

from oaa_tf.command_line.settings import Settings, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulerSettings(Settings, group="work"):
    """Who does the work, for commands that use all cores by themselves."""

    scheduler: str = setting(
        "",
        help="Dask scheduler whose workers share the images: tls://HOST:PORT, tcp:// on this machine, or local:N for N"
        " processes here. Empty: this process alone.",
        may_change=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelSettings(SchedulerSettings):
    """Who does the work."""

    num_workers: int = setting(0, help="Threads; 0 for one per core.", minimum=0, may_change=True)
