#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "dsm_ext/weights.h"

// A folder for one test. The destructor deletes it.
class Folder {
 public:
  Folder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string("dsm_ext_") + test->test_suite_name() + "_" + test->name());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string path() const { return path_.string(); }
  std::string path(const char* name) const { return (path_ / name).string(); }

  void write(const char* name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary | std::ios::trunc) << content;
  }

 private:
  std::filesystem::path path_;
};

/// A safetensors header with a length before it, which may be wrong on purpose.
inline std::string with_length(const std::string& header, uint64_t length) {
  std::string content;
  for (int i = 0; i < 8; ++i) {
    content += static_cast<char>(length >> (8 * i));
  }
  return content + header;
}

/// The content of a safetensors file of float32 tensors.
inline std::string safetensors(
    const dsm_ext::NamedTensors& tensors, const std::string& metadata = "{}") {
  std::string header = "{\"__metadata__\":" + metadata, data;
  for (const auto& [name, tensor] : tensors) {
    const auto values = tensor.contiguous();
    const auto begin = data.size();
    data.append(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
    std::string shape;
    for (const int64_t length : values.sizes()) {
      shape += shape.empty() ? "" : ",";
      shape += std::to_string(length);
    }
    header += ",\"";
    header += name + R"(":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[)" +
              std::to_string(begin) + "," + std::to_string(data.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return with_length(header, header.size()) + data;
}
