"""Folders of the model hub, as timm writes them."""

import json

from timm.models._hub import save_for_hf


def write_hub(folder, model):
    """Write the folder that timm pushes to the hub."""
    folder.mkdir(exist_ok=True)
    save_for_hf(model, folder, safe_serialization=True)
    return folder


def change(folder, **fields):
    path = folder / "config.json"
    content = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def write_header(path, model):
    """Write a safetensors file with a model's names and shapes, and a hole for the tensors."""
    entries, end = {}, 0
    for name, tensor in model.state_dict().items():
        begin, end = end, end + 4 * tensor.numel()
        entries[name] = {
            "dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end],
        }  # fmt: skip
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # tensors that are not aligned would be copied
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
