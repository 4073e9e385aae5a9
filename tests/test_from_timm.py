"""Loading: names, files, and what is refused."""

import functools
from collections import OrderedDict

import pytest
import timm
import torch
from models import create, images_for, small
from safetensors.torch import save_file
from timm.layers import LayerNormFp32
from tolerance import assert_close

import dsm_ext
from dsm_ext.weights import load_weights

NAME = "deit_tiny_patch16_224"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create(NAME)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(model.state_dict(), path)
    return path


def test_name_and_safetensors(model, file):
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(NAME, weights=file)
    assert fast.schedule == dsm_ext.Schedule.dsm(12)
    assert_close(fast(images), dsm_ext.from_timm(model)(images))
    tagged = dsm_ext.from_timm(f"{NAME}.fb_in1k", "dense", weights=str(file))
    with torch.no_grad():
        assert_close(tagged(images), model(images))


@pytest.mark.parametrize("under", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickles(model, tmp_path, under, suffix):
    state = model.state_dict()
    path = tmp_path / f"model{suffix}"
    torch.save({under: state, "epoch": 3} if under else state, path)
    images = images_for(model, 1)
    assert_close(dsm_ext.from_timm(NAME, weights=path)(images), dsm_ext.from_timm(model)(images))


def test_dtype_and_device(model, device):
    fast = dsm_ext.from_timm(model, dtype=torch.bfloat16, device=device)
    parameters = list(fast.parameters())
    assert {p.dtype for p in parameters} == {torch.bfloat16}
    assert {p.device.type for p in parameters} == {device.type}
    assert model.head.weight.dtype == torch.float32


def test_models_made_in_inference_mode_work(model):
    with torch.inference_mode():
        fast = dsm_ext.from_timm(model)
    fast.to(torch.bfloat16).float()
    assert fast(images_for(model, 1)).shape == (1, 1000)


FEATURES = {
    "dynamic_img_pad": {"dynamic_img_pad": True},
    "a pooling of type AttentionPoolPrr": {"global_pool": "prr"},
    "a pooling other than token, avg or map": {"global_pool": "avgmax"},
    "a head on tokens that are not pooled": {"global_pool": ""},
    "norms of type LayerNormFp32": {"norm_layer": LayerNormFp32},
    "an activation of type ReLU": {"act_layer": torch.nn.ReLU},
    "an MLP of type GatedMlp": {"mlp_layer": timm.layers.GatedMlp},
    "a gate in the MLP's second half": {
        "mlp_layer": timm.layers.GluMlp, "act_layer": torch.nn.GELU,
    },
    "an attention of type DiffAttention": {"attn_layer": "diff"},
    "blocks of type ResPostBlock": {"block_fn": timm.models.vision_transformer.ResPostBlock},
    "blocks of type ParallelThingsBlock": {
        "block_fn": timm.models.vision_transformer.ParallelThingsBlock,
    },
    "one output projection of attention and MLP": {
        "block_fn": functools.partial(
            timm.models.vision_transformer.ParallelScalingBlock, fuse_out_proj=True
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_unsupported_features_are_named(feature):
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(small(**FEATURES[feature]))


def test_other_changes_are_refused():
    model = small()
    model.blocks[1].mlp.act = torch.nn.GELU(approximate="tanh")
    with pytest.raises(NotImplementedError, match="activations of several kinds"):
        dsm_ext.from_timm(model)
    model = small()
    model.blocks[2] = small(mlp_ratio=2).blocks[0]
    with pytest.raises(NotImplementedError, match="blocks of different shapes"):
        dsm_ext.from_timm(model)
    model = small()
    model.head = torch.nn.Sequential(model.head)
    with pytest.raises(NotImplementedError, match="a head of type Sequential"):
        dsm_ext.from_timm(model)
    model = small()
    model.blocks[0].norm2.eps = 1e-5
    with pytest.raises(NotImplementedError, match="norms of different eps"):
        dsm_ext.from_timm(model)


def _pool_of_four_heads():
    return timm.layers.AttentionPoolLatent(32, num_heads=4, norm_layer=timm.layers.LayerNorm)


def changed_model(change):
    model = small()
    change(model)
    return model


def test_an_attention_pool_of_another_scale_is_refused():
    model = small(global_pool="map")
    model.attn_pool.scale = 1.0
    with pytest.raises(NotImplementedError, match="an attention pool that timm"):
        dsm_ext.from_timm(model)


def test_shared_modules_are_accepted():
    model = small()
    model.blocks[1] = model.blocks[0]
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))


def test_rotary_models_are_refused():
    """EVA and rotary models."""
    with pytest.raises(NotImplementedError, match=r"the architecture timm\.models\.eva\.Eva"):
        dsm_ext.from_timm(timm.create_model("eva02_tiny_patch14_224", depth=1))


@pytest.mark.parametrize(
    "feature, change",
    [
        ("forward hooks", lambda m: m.blocks[1].register_forward_hook(lambda *_: None)),
        ("forward hooks", lambda m: m.norm.register_forward_pre_hook(lambda *_: None)),
        ("a patched method in blocks.1", lambda m: setattr(m.blocks[1], "forward", torch.relu)),
        ("a patched method in the model", lambda m: setattr(m, "forward_head", torch.relu)),
        ("a pos_drop of type LayerNorm", lambda m: setattr(m, "pos_drop", torch.nn.LayerNorm(32))),
        (
            "a qkv of type ParametrizedLinear",
            lambda m: torch.nn.utils.parametrizations.weight_norm(m.blocks[0].attn.qkv),
        ),
        ("overlap or are padded", lambda m: setattr(m.patch_embed.proj, "padding", (1, 1))),
        (
            "gated attention",
            lambda m: setattr(m.blocks[0], "attn", timm.layers.Attention(32, 2, gated=True)),
        ),
        (
            "an attention pool with other heads",
            lambda m: (
                setattr(m, "attn_pool", _pool_of_four_heads()),
                setattr(m, "global_pool", "map"),
            ),
        ),
        (
            "blocks that are not in the order",
            lambda m: setattr(
                m,
                "blocks",
                torch.nn.Sequential(OrderedDict((str(i), m.blocks[i]) for i in (1, 0, 2, 3))),
            ),
        ),
        (
            "a head_drop of type GELU",
            lambda m: setattr(m, "head_drop", m.blocks[0].mlp.act),
        ),
        ("a num_prefix_tokens that does not", lambda m: setattr(m, "num_prefix_tokens", 0)),
        ("a grid_size", lambda m: setattr(m.patch_embed, "grid_size", (7, 28))),
        ("no image size", lambda m: setattr(m.patch_embed, "img_size", None)),
        ("attention scale", lambda m: setattr(m.blocks[0].attn, "scale", 1.0)),
        ("unknown here, adapter", lambda m: m.add_module("adapter", torch.nn.Linear(2, 2))),
        ("no blocks|or none", lambda m: setattr(m, "blocks", torch.nn.Sequential())),
    ],
)
def test_modified_models_are_refused(feature, change):
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(changed_model(change))


def test_modifications_that_change_nothing_are_accepted():
    model = small(drop_rate=0.1, pos_drop_rate=0.1, patch_drop_rate=0.5, drop_path_rate=0.1)
    model.reset_classifier(7)
    model.set_input_size(img_size=(48, 64))
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))


def test_the_nearest_supported_model_is_named():
    with pytest.raises(NotImplementedError, match="nearest supported model is vit_small_patch16_"):
        dsm_ext.from_timm(timm.create_model("vit_small_patch16_18x2_224", depth=2))
    with pytest.raises(NotImplementedError, match="nearest supported model is vit_base_patch16_"):
        dsm_ext.from_timm(timm.create_model("resnet18"))


def test_other_architectures_are_refused():
    with pytest.raises(NotImplementedError, match="the architecture .*ResNet"):
        dsm_ext.from_timm(timm.create_model("resnet18"))
    with pytest.raises(NotImplementedError, match="blocks of type ParallelThingsBlock"):
        dsm_ext.from_timm("vit_small_patch16_18x2_224", weights="nowhere.safetensors")
    with pytest.raises(TypeError, match="expected a timm model or its name"):
        dsm_ext.from_timm(8)


def test_bad_arguments(model, file):
    with pytest.raises(ValueError, match="either weights=FILE or pretrained=True"):
        dsm_ext.from_timm(NAME)
    with pytest.raises(ValueError, match="either weights=FILE or pretrained=True"):
        dsm_ext.from_timm(NAME, weights=file, pretrained=True)
    with pytest.raises(TypeError, match="go with a model's name"):
        dsm_ext.from_timm(model, weights=file)
    with pytest.raises(ValueError, match="timm has no model named 'deit_tinyy'"):
        dsm_ext.from_timm("deit_tinyy", weights=file)
    with pytest.raises(TypeError, match="float32, bfloat16 or float16, got .* of Double"):
        dsm_ext.from_timm(model, dtype=torch.float64)
    with pytest.raises(ValueError, match="12 blocks, got 11"):
        dsm_ext.from_timm(model, dsm_ext.Schedule.dense(11))


def changed(model, tmp_path, **changes):
    state = {**model.state_dict(), **changes}
    path = tmp_path / "changed.safetensors"
    save_file({k: v for k, v in state.items() if v is not None}, path)
    return path


def test_weights_that_do_not_fit_are_named(model, tmp_path):
    path = changed(
        model,
        tmp_path,
        **{
            "norm.bias": None,
            "blocks.3.attn.qkv.weight": None,
            "head.weight": torch.zeros(10, 192),
            "blocks.0.ls1.gamma": torch.zeros(192),
            "pos_embed": torch.full((1, 197, 192), float("nan")),
        },
    )
    with pytest.raises(ValueError, match="do not fit") as error:
        dsm_ext.from_timm(NAME, weights=path)
    for fault in (
        "missing blocks.3.attn.qkv.weight, norm.bias",
        "unexpected blocks.0.ls1.gamma",
        "misshapen head.weight [10, 192] (expected [1000, 192])",
        "NaN or infinity in pos_embed",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(value):
    model = small()
    with torch.no_grad():
        model.blocks[2].mlp.fc1.weight[3, 4] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in blocks\.2\.mlp\.fc1\.weight$"):
        dsm_ext.from_timm(model)


def test_many_faults_are_counted(model, tmp_path):
    path = tmp_path / "few.safetensors"
    save_file({"norm.bias": torch.zeros(192)}, path)
    with pytest.raises(ValueError, match="and 143 more"):
        dsm_ext.from_timm(NAME, weights=path)


def test_mixed_dtypes_are_refused():
    model = small()
    model.head.half()
    with pytest.raises(TypeError, match="weights of one dtype"):
        dsm_ext.from_timm(model)


def test_bad_files(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such weight file: .*none\.safetensors"):
        load_weights(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path)
    odd = tmp_path / "model.bin"
    odd.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a \.safetensors, \.pt or \.pth file"):
        load_weights(odd)
    whole = file.read_bytes()
    for content in (b"", b"\0" * 8, whole[:100], whole[: len(whole) // 2], b"not a file" * 100):
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.safetensors is not a safetensors file"):
            load_weights(bad)


def test_bad_pickles(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({"a": torch.zeros(100)}, path)
    whole = path.read_bytes()
    for content in (b"", b"not a pickle", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is not a file of weights alone"):
            load_weights(path)
    torch.save(torch.nn.Linear(2, 2), path)  # code, not weights
    with pytest.raises(ValueError, match=r"bad\.pt is not a file of weights alone"):
        load_weights(path)
    for content in ([1, 2], {"a": 1}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="holds no state dict of tensors"):
            load_weights(path)
