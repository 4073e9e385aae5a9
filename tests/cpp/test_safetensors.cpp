#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "dsm_ext/weights.h"
#include "files.h"

using dsm_ext::read_safetensors;

namespace {

class Safetensors : public testing::Test {
 protected:
  void write(const std::string& content) { folder_.write("model.safetensors", content); }

  // Writes a header with a length before it and `bytes` bytes of data after it.
  void write(const std::string& header, size_t bytes, uint64_t length) {
    auto content = with_length(header, length);
    for (size_t i = 0; i < bytes; ++i) {
      content += static_cast<char>(i);
    }
    write(content);
  }
  void write(const std::string& header, size_t bytes) { write(header, bytes, header.size()); }

  // The message of the error that reading the file throws, without the file's name, or "none".
  std::string fault() {
    try {
      read_safetensors(path_);
    } catch (const dsm_ext::Error& error) {
      const std::string message = error.what(), start = "dsm_ext: " + path_ + ": ";
      EXPECT_EQ(message.substr(0, start.size()), start);
      return message.substr(std::min(start.size(), message.size()));
    }
    return "none";
  }
  std::string fault_of(const std::string& header, size_t bytes) {
    write(header, bytes);
    return fault();
  }

  Folder folder_;
  std::string path_ = folder_.path("model.safetensors");
};

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST_F(Safetensors, ReadsTensorsOfEveryKind) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":)" + entry("F32", "[2,2]", "[8,24]") + R"(,"a":)" +
      entry("I64", "[]", "[0,8]") + R"(,"empty":)" + entry("F16", "[0,7]", "[24,24]") + R"(,"c":)" +
      entry("U8", "[3]", "[24,27]") + "}";
  write(header, 27);
  const auto tensors = read_safetensors(path_);
  ASSERT_EQ(tensors.size(), 4);
  const std::map<std::string, at::Tensor> named(tensors.begin(), tensors.end());
  EXPECT_EQ(named.at("a").item<int64_t>(), 0x0706050403020100);
  EXPECT_EQ(named.at("b").sizes(), (at::IntArrayRef{2, 2}));
  EXPECT_EQ(named.at("b").scalar_type(), at::kFloat);
  EXPECT_EQ(named.at("b").view(at::kByte)[1][7].item<int>(), 8 + 15);
  EXPECT_EQ(named.at("empty").sizes(), (at::IntArrayRef{0, 7}));
  EXPECT_EQ(named.at("c")[2].item<int>(), 26);
}

TEST_F(Safetensors, WritingToATensorLeavesTheFileAlone) {
  const std::string header = R"({"a":)" + entry("F32", "[1]", "[0,4]") + "}  ";
  write(header, 4);
  {
    const auto tensors = read_safetensors(path_);
    const float before = tensors[0].second.item<float>();
    tensors[0].second.fill_(3);
    EXPECT_EQ(tensors[0].second.item<float>(), 3);
    EXPECT_EQ(read_safetensors(path_)[0].second.item<float>(), before);
  }
}

TEST_F(Safetensors, CopiesTensorsThatAreNotAligned) {
  for (size_t spaces = 0; spaces < 8; ++spaces) {
    write(R"({"a":)" + entry("F32", "[2]", "[0,8]") + "}" + std::string(spaces, ' '), 8);
    const auto tensor = read_safetensors(path_)[0].second;
    EXPECT_EQ(tensor.view(at::kByte)[5].item<int>(), 5);
  }
}

TEST_F(Safetensors, NamesFilesOfAnotherFormat) {
  EXPECT_EQ(fault(), "no such file");
  std::filesystem::create_directory(path_);
  EXPECT_EQ(fault(), "not a file");
  std::filesystem::remove(path_);
  write("");
  EXPECT_EQ(fault(), "not a safetensors file: it has 0 bytes");
  write("1234567");
  EXPECT_EQ(fault(), "not a safetensors file: it has 7 bytes");
  write("{}", 0, 3);
  EXPECT_EQ(fault(), "not a safetensors file: a header of 3 bytes in a file of 10");
  write("{}", 0, UINT64_MAX);
  EXPECT_NE(fault().find("a header of 18446744073709551615 bytes"), std::string::npos);
}

TEST_F(Safetensors, NamesAFileThatMayNotBeRead) {
  write("{}", 0);
  std::filesystem::permissions(path_, std::filesystem::perms::none);
  const bool root = geteuid() == 0;  // root may read every file
  if (root && seteuid(65534) != 0) {
    GTEST_SKIP() << "root may read every file, and cannot become another user here";
  }
  const auto said = fault();
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_NE(said.find("it cannot be read"), std::string::npos) << said;
}

TEST_F(Safetensors, NamesHeadersThatAreWrong) {
  EXPECT_EQ(fault_of("[]", 0), "its header is no JSON object");
  EXPECT_NE(fault_of("{", 0).find("its header is no JSON: "), std::string::npos);
  EXPECT_NE(fault_of("\xff\xfe{}", 0).find("its header is no JSON: "), std::string::npos);
  EXPECT_NE(fault_of("", 0).find("its header is no JSON: "), std::string::npos);
  const std::string a = entry("U8", "[1]", "[0,1]");
  EXPECT_EQ(fault_of(R"({"a":)" + a + R"(,"a":)" + a + "}", 1), "its header has 'a' twice");
  EXPECT_EQ(fault_of(R"({"a":{"dtype":"U8","dtype":"U8"}})", 1), "its header has 'dtype' twice");
  EXPECT_EQ(fault_of(std::string(1000000, '['), 0), "its header is nested deeper than 3");
  EXPECT_EQ(fault_of(R"({"a":{"b":{"c":{"d":{}}}}})", 0), "its header is nested deeper than 3");
  EXPECT_EQ(fault_of(R"({"__metadata__":1})", 0), "its metadata is no object");
  EXPECT_EQ(fault_of(R"({"__metadata__":{"a":1}})", 0), "its metadata 'a' is no string");
}

TEST_F(Safetensors, NamesTensorsThatDoNotFit) {
  const auto one = [&](const std::string& text, size_t bytes) {
    return fault_of(R"({"a":)" + text + "}", bytes);
  };
  EXPECT_EQ(one("1", 0), "tensor 'a' has no dtype");
  EXPECT_EQ(one("{}", 0), "tensor 'a' has no dtype");
  EXPECT_EQ(one(R"({"dtype":1})", 0), "tensor 'a' has a dtype that is no string");
  EXPECT_EQ(one(R"({"dtype":"F32"})", 0), "tensor 'a' has no shape");
  EXPECT_EQ(one(R"({"dtype":"F32","shape":[1]})", 4), "tensor 'a' has no data_offsets");
  EXPECT_EQ(one(entry("F33", "[1]", "[0,4]"), 4), "tensor 'a' has the unknown dtype 'F33'");
  for (const char* shape : {"1", "[-1]", "[1.5]", "[\"1\"]", "[null]", "[1e3]"}) {
    EXPECT_EQ(
        one(entry("F32", shape, "[0,4]"), 4), "tensor 'a' has a shape that is no list of counts");
  }
  for (const char* offsets : {"[0,5]", "[4,0]", "[0]", "[0,4,8]", "[0,18446744073709551615]"}) {
    EXPECT_EQ(one(entry("F32", "[1]", offsets), 4), "tensor 'a' lies outside the file");
  }
  EXPECT_EQ(
      one(entry("F32", "[2]", "[0,4]"), 4),
      "tensor 'a' has 4 bytes, and its shape and dtype make 8");
  EXPECT_EQ(
      one(entry("F32", "[4611686018427387904,4]", "[0,4]"), 4),
      "tensor 'a' has a shape that overflows");
  EXPECT_EQ(
      one(entry("F32", "[18446744073709551615]", "[0,4]"), 4),
      "tensor 'a' has a shape that overflows");
  EXPECT_EQ(
      one(entry("F32", "[0,9223372036854775807,9223372036854775807]", "[0,0]"), 0),
      "tensor 'a' has a shape that overflows");
  EXPECT_EQ(one(entry("U8", "[1]", "[1,2]"), 2), "there is a hole before tensor 'a'");
  EXPECT_EQ(one(entry("U8", "[1]", "[0,1]"), 2).substr(0, 23), "its tensors end at byte");
  EXPECT_EQ(
      fault_of(
          R"({"a":)" + entry("U8", "[2]", "[0,2]") + R"(,"b":)" + entry("U8", "[2]", "[1,3]") + "}",
          3),
      "tensor 'b' overlaps another");
}

// Takes a good file, changes one byte or cuts the end off, and reads it. The reader must give
// tensors or an error that names the file.
TEST_F(Safetensors, SurvivesEveryChangeOfAByte) {
  const std::string header = R"({"__metadata__":{"x":"y"},"a":)" + entry("F32", "[2,1]", "[0,8]") +
                             R"(,"b":)" + entry("BF16", "[3]", "[8,14]") + "}";
  write(header, 14);
  std::ifstream file(path_, std::ios::binary);
  const std::string good(std::istreambuf_iterator<char>(file), {});
  file.close();
  int read = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char change : std::string("\0\1\t \"09[{},\x80\xff", 13)) {
      auto content = good;
      content[i] = change;
      write(content);
      read += fault() == "none";
    }
    write(good.substr(0, i));
    EXPECT_NE(fault(), "none");
  }
  EXPECT_GT(read, 14 * 13);  // a change of the 14 bytes of data is no fault
}

}  // namespace
