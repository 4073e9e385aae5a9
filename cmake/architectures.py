"""Write the table of timm's architectures, with the config fields that weights do not show.

    python cmake/architectures.py [FILE]

The table has every model of the installed timm that dsm_ext supports. It takes about a minute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch

from dsm_ext import Config
from dsm_ext.timm_features import check_supported, config_of

FILE = Path(__file__).parent.parent / "cpp" / "src" / "weights" / "architectures.json"
MODULES = ("vision_transformer", "deit", "eva")
FIELDS = (
    "img_size", "num_heads", "eps", "act_layer", "global_pool", "pool_include_prefix",
    "dynamic_img_size", "num_kv_heads", "num_full_attn_blocks", "attn_pool_num_heads", "rope_type",
    "rope_temperature", "rope_grid_offset", "rope_grid_indexing", "rope_rotate_half",
    "ref_feat_shape",
)  # fmt: skip


def shapes() -> dict[str, Any]:
    """Make every supported model on the meta device. The keys are timm's names."""
    models = {}
    for module in MODULES:
        for name in timm.list_models(module=module):
            with torch.device("meta"):
                model = timm.create_model(name)
            try:
                check_supported(model)
            except NotImplementedError:
                continue
            models[name] = model
    return models


def fields(config: Config) -> dict[str, Any]:
    """The fields of a config that weights do not show and that differ from the default."""
    given, usual = config.to_dict(), Config().to_dict()
    return {name: given[name] for name in FIELDS if given[name] != usual[name]}


def table(models: dict[str, Any]) -> str:
    """The text of the table, with a line for each architecture."""
    rows = [
        f"  {json.dumps(name)}: {json.dumps(fields(config_of(model)))}"
        for name, model in sorted(models.items())
    ]
    body = ",\n".join(rows)
    return f'{{"timm": "{timm.__version__}", "architectures": {{\n{body}\n}}}}\n'


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    target.write_text(table(shapes()))
