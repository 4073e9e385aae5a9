"""Which of timm's Vision Transformers are supported, and the ``Config`` of a supported one."""

from dsm_ext.timm_models.config import config_of
from dsm_ext.timm_models.support import check_supported

__all__ = ["check_supported", "config_of"]
