// Reads a folder that holds the weights of a small model and the fuzzer's bytes as config.json. The
// library must read the config or throw a dsm_ext::Error. If it reads the config, planning the
// schedule and preprocessing a picture must work too.

#include <ATen/Functions.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <filesystem>
#include <utility>
#include <vector>

#include "memory_file.h"
#include "weights/model_file.h"

namespace {

using Shape = std::vector<int64_t>;

// The content of a safetensors file whose values are zeros.
std::string zeros(const std::vector<std::pair<std::string, Shape>>& tensors) {
  std::string header = "{";
  size_t end = 0;
  for (const auto& [name, shape] : tensors) {
    const size_t begin = end;
    std::string lengths;
    size_t bytes = 4;
    for (const int64_t length : shape) {
      lengths += (lengths.empty() ? "" : ",") + std::to_string(length);
      bytes *= length;
    }
    end += bytes;
    header += (begin == 0 ? "\"" : ",\"") + name + R"(":{"dtype":"F32","shape":[)" + lengths +
              R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file += static_cast<char>(header.size() >> (8 * i));
  }
  return file + header + std::string(end, '\0');
}

// A folder with links to files that are in memory.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "dsm_ext_fuzz_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      std::abort();
    }
    path_ = name;
    const auto content = zeros({
        {"cls_token", {1, 1, 12}},
        {"pos_embed", {1, 197, 12}},
        {"patch_embed.proj.weight", {12, 3, 2, 2}},
        {"blocks.0.norm1.weight", {12}},
        {"blocks.0.norm1.bias", {12}},
        {"blocks.0.mlp.fc1.weight", {8, 12}},
        {"blocks.0.mlp.fc2.weight", {12, 8}},
        {"blocks.1.norm1.weight", {12}},
        {"norm.weight", {12}},
        {"head.weight", {3, 12}},
    });
    weights_.write(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    std::filesystem::create_symlink(weights_.path(), path_ / "model.safetensors");
    std::filesystem::create_symlink(config_.path(), path_ / "config.json");
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  const MemoryFile& config() const { return config_; }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
  MemoryFile weights_, config_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  static const Folder folder;
  folder.config().write(bytes, count);
  try {
    const auto info = dsm_ext::open_model(folder.path()).info;
    if (info.config.tokens() <= 5000) {
      try {
        const auto plan = info.schedule.plan(info.config);
        if (plan.multiply_adds() <= 0 || plan.tokens_out() <= 0 || plan.str().empty()) {
          std::abort();
        }
      } catch (const c10::ValueError&) {  // the schedule does not fit the config
      }
    }
    const auto& p = info.preprocessing;
    if (p.size[0] * p.size[1] <= 10'000) {
      try {
        const auto channels = static_cast<int64_t>(p.mean.size());
        const auto x = p(at::full({5, 7, channels}, 9, at::kByte));
        if (x.size(0) != channels || x.size(1) != p.size[0] || x.size(2) != p.size[1]) {
          std::abort();
        }
      } catch (const c10::ValueError&) {  // the picture would become too large
      }
    }
  } catch (const dsm_ext::Error&) {
  }
  return 0;
}
