// Prints the five most likely classes of JPEG pictures. FOLDER holds a model that `dsm-ext export`
// wrote or that comes from the model hub: model.safetensors and config.json.
//
//     dsm_ext_classify FOLDER PICTURE... [--schedule SCHEDULE]

#include <ATen/ATen.h>
#include <dsm_ext/dsm_ext.h>

#include <cstdio>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "jpeg.h"

namespace {

std::vector<unsigned char> read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::runtime_error("no such picture");
  }
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void print_likeliest(const at::Tensor& logits, const std::vector<std::string>& labels) {
  const auto shares = logits.to(at::kFloat).softmax(0);
  const auto [values, classes] = shares.topk(std::min<int64_t>(5, shares.numel()));
  for (int64_t i = 0; i < values.numel(); ++i) {
    const auto k = classes[i].item<int64_t>();
    // A label may list several names, for instance "tench, Tinca tinca": print the first.
    const auto name = labels.empty() ? std::to_string(k) : labels[k].substr(0, labels[k].find(','));
    std::printf("  %5.1f %%  %s\n", 100 * values[i].item<float>(), name.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> arguments;
  std::optional<std::string> schedule;
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == std::string("--schedule") && i + 1 < argc) {
      schedule = argv[++i];
    } else {
      arguments.emplace_back(argv[i]);
    }
  }
  if (arguments.size() < 2) {
    std::fprintf(stderr, "usage: %s FOLDER PICTURE... [--schedule SCHEDULE]\n", argv[0]);
    return 2;
  }
  int failed = 0;
  try {
    const auto info = dsm_ext::model_info(arguments[0]);
    auto model = dsm_ext::load(arguments[0], schedule, {.dtype = at::kFloat});
    const auto channels = static_cast<int>(info.config.in_chans);
    for (size_t i = 1; i < arguments.size(); ++i) {
      try {
        const auto picture = decode_jpeg(read_bytes(arguments[i]), channels);
        const auto logits = model->forward(info.preprocessing(picture).unsqueeze(0))[0];
        std::printf("%s\n", arguments[i].c_str());
        print_likeliest(logits, info.labels);
      } catch (const std::runtime_error& error) {  // the picture cannot be read or decoded
        std::fprintf(stderr, "skipped: %s: %s\n", arguments[i].c_str(), error.what());
        ++failed;
      } catch (const c10::Error& error) {  // preprocessing would make the picture too large
        std::fprintf(
            stderr, "skipped: %s: %s\n", arguments[i].c_str(), error.what_without_backtrace());
        ++failed;
      }
    }
  } catch (const dsm_ext::Error& error) {  // the model's files are wrong
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const c10::Error& error) {  // the schedule is wrong or does not fit the model
    std::fprintf(stderr, "%s\n", error.what_without_backtrace());
    return 2;
  }
  return failed > 0 ? 1 : 0;
}
