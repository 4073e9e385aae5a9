#include "dsm_ext/profile.h"

#include <array>
#include <cstddef>

namespace dsm_ext {

const char* to_string(Stage stage) {
  constexpr std::array<const char*, kStages> names = {"embed",     "norm1", "qkv",   "match",
                                                      "attention", "proj",  "merge", "norm2",
                                                      "fc1",       "fc2",   "head"};
  return names.at(static_cast<std::size_t>(stage));
}

}  // namespace dsm_ext
