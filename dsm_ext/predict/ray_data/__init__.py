"""Running many engines on a cluster, by Ray Data.

Only this package imports Ray, which is an optional dependency.
"""

try:
    import ray.data  # noqa: F401
except ImportError as error:
    raise ImportError(
        'dsm_ext.predict: expected Ray Data to be installed; pip install "dsm_ext[ray]"'
    ) from error

from dsm_ext.predict.ray_data.layout import Layout
from dsm_ext.predict.ray_data.run import run_on_ray

__all__ = ["Layout", "run_on_ray"]
