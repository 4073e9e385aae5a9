#include "dsm_ext/config.h"

#include <c10/util/Exception.h>

namespace dsm_ext {

void Config::validate() const {
  const auto positive = [](const char* name, int64_t value) {
    TORCH_CHECK_VALUE(value > 0, "dsm_ext.Config: expected ", name, " to be positive, got ", value);
  };
  positive("patch_size", patch_size[0]);
  positive("patch_size", patch_size[1]);
  positive("in_chans", in_chans);
  positive("num_classes", num_classes);
  positive("embed_dim", embed_dim);
  positive("depth", depth);
  positive("num_heads", num_heads);
  positive("mlp_dim", mlp_dim);
  TORCH_CHECK_VALUE(eps > 0, "dsm_ext.Config: expected eps to be positive, got ", eps);
  TORCH_CHECK_VALUE(
      grid()[0] > 0 && grid()[1] > 0, "dsm_ext.Config: expected img_size to hold a patch of ",
      patch_size[0], " x ", patch_size[1], " pixels, got ", img_size[0], " x ", img_size[1]);
  TORCH_CHECK_VALUE(
      embed_dim % num_heads == 0,
      "dsm_ext.Config: expected embed_dim to be a multiple of num_heads = ", num_heads, ", got ",
      embed_dim);
}

}  // namespace dsm_ext
