"""Running many engines on a cluster, by Ray Data.

Ray Data starts the engines as actors, hands them units, collects their rows and starts the tasks
that write shards. It starts anew what was running on a machine that is lost.

- A model and the processes that decode for it are one actor. So pixels stay in the shared memory of
  one machine. If Ray's object store carried them, a million pictures of 224 x 224 would be 150 GB.
  On GPUs the layout is the same: an actor has one GPU, and CPUs for its decoding processes.
- The object store carries units, which are about 500 bytes for 64 pictures, and rows.
- The rows of a task are one block, which is there as a whole or not at all. A shard's name is the
  digest of its keys, so a task that writes again replaces its own shard. No row is lost, and a
  key occurs twice only if sources overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.data import ActorPoolStrategy

from dsm_ext._native import __version__
from dsm_ext.predict.ray_data.engine_actor import Engine, EngineActor, packed
from dsm_ext.predict.ray_data.errors import plain_error
from dsm_ext.predict.ray_data.layout import Layout
from dsm_ext.predict.ray_data.rows import row_bytes
from dsm_ext.predict.ray_data.session import session
from dsm_ext.predict.ray_data.sink import ShardSink, rows_of_shards
from dsm_ext.predict.ray_data.tally import Count, reporting, start_tally
from dsm_ext.predict.result.output_folder import OutputFolder


def run_on_ray(
    address: str,
    units: Iterable[Any],
    settings: Any,
    output: OutputFolder,
    *,
    layout: Layout | None = None,
    engine: Callable[[Any, Any], Engine] | None = None,
    report: Callable[[int, int], None] | None = None,
    shard_rows: int | None = None,
) -> dict[str, int]:
    """Predict pictures on a Ray cluster. However it ends, ``output`` is settled, but not closed.

    All machines need this version of ``dsm_ext``, and must find the sources and ``output`` under
    the same names.

    Args:
        address: ``local``, ``auto`` or ``host:port``. If this process is connected to Ray already,
            that connection is used.
        units: what to read. Each is pickled.
        settings: given to each engine; they are pickled.
        output: the folder that other processes write shards to. Pictures in ``output.done`` are
            left out.
        layout: how many engines there are, and what each one has.
        engine: called with ``settings`` and ``output.done`` (None if there are none) in each actor.
            The default is ``dsm_ext.predict.engine.Engine``.
        report: called about twice a second by another thread, with how many pictures have rows so
            far and how many of these have an error. Rows that were lost and computed again count
            twice.
        shard_rows: the least that a shard has. The default is by ``rows_of_shards``.

    Returns:
        ``rows`` and ``errors``: what this run wrote.

    Raises:
        ConnectionError: no cluster answers.
        ValueError: a layout that the cluster cannot have.
        RuntimeError: Ray itself failed. What an engine or a writer raises is raised as it is.
    """
    layout = layout or Layout()
    pieces = [packed(unit) for unit in units]
    if not pieces:
        return {"rows": 0, "errors": 0}
    try:
        with session(address):
            counts = _run(pieces, settings, output, layout, engine, report, shard_rows)
    except BaseException:
        with suppress(OSError, ValueError):  # the manifest counts what was written until now
            output.settle()
        raise
    output.settle()
    return counts


def _run(
    pieces: list[bytes],
    settings: Any,
    output: OutputFolder,
    layout: Layout,
    engine: Callable[[Any, Any], Engine] | None,
    report: Callable[[int, int], None] | None,
    shard_rows: int | None,
) -> dict[str, int]:
    least, most = layout.pool()
    per_task = layout.units_per_task(most, len(pieces), row_bytes(output.schema))
    tasks = [pieces[start : start + per_task] for start in range(0, len(pieces), per_task)]
    least, most = min(least, len(tasks)), min(most, len(tasks))
    tally = start_tally()
    sink = ShardSink(output, shard_rows or rows_of_shards(output.schema, most))
    arguments = {
        "engine": engine,
        "settings": settings,
        "done": ray.put(output.done) if len(output.done) else None,
        "place": output.place,
        "schema": output.schema,
        "count": Count(tally, most),
        "version": __version__,
    }
    try:
        with reporting(tally, report):
            _dataset(tasks).map_batches(
                EngineActor,
                fn_constructor_kwargs=arguments,
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(min_size=least, max_size=most),
                num_cpus=layout.cpus,
                num_gpus=layout.gpus,
            ).write_datasink(
                sink,
                # Writing shares the machines with engines, which may have reserved all CPUs.
                ray_remote_args={"num_cpus": 0},
                concurrency=max(2, most // 4),
            )
    except Exception as error:
        plain = plain_error(error)
        if plain is error:
            raise
        raise plain from None
    return sink.written


def _dataset(tasks: list[list[bytes]]) -> ray.data.Dataset:
    """A block for each task. It has one row, so a batch of one row is a task too."""
    rows = [{"units": pieces} for pieces in tasks]
    return ray.data.from_items(rows, override_num_blocks=len(rows))
