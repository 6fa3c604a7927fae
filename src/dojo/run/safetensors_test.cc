#include "dojo/run/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace dojo::run {
namespace {

Safetensors sample() {
  Safetensors tensors;
  tensors.entries["b.weight"] = {SafetensorsDtype::F32, {2, 3}, std::vector<std::byte>(24)};
  tensors.entries["a codes"] = {SafetensorsDtype::U8, {5}, std::vector<std::byte>(5, std::byte{7})};
  tensors.entries["scalar"] = {SafetensorsDtype::I64, {}, std::vector<std::byte>(8)};
  tensors.entries["nothing"] = {SafetensorsDtype::Bf16, {0, 4}, {}};
  tensors.metadata["step"] = "12";
  return tensors;
}

std::string with_header(const std::string& header, std::size_t data_bytes) {
  std::string content(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(content.data(), &length, 8);
  return content + header + std::string(data_bytes, 'x');
}

TEST(Safetensors, ReadsBackWhatItWrote) {
  const Safetensors tensors = sample();
  const auto read = parse_safetensors(print_safetensors(tensors));
  ASSERT_TRUE(read.has_value()) << read.error().to_string();
  ASSERT_EQ(read->entries.size(), 4u);
  for (const auto& [name, entry] : tensors.entries) {
    const SafetensorsEntry& other = read->entries.at(name);
    EXPECT_EQ(other.dtype, entry.dtype);
    EXPECT_EQ(other.shape, entry.shape);
    EXPECT_EQ(other.bytes, entry.bytes);
  }
  EXPECT_EQ(read->metadata, tensors.metadata);
}

TEST(Safetensors, WritesSortedAndAligned) {
  const std::string content = print_safetensors(sample());
  EXPECT_EQ(content, print_safetensors(sample()));
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_LT(content.find("a codes"), content.find("b.weight"));
}

TEST(Safetensors, RefusesAnyTruncation) {
  const std::string content = print_safetensors(sample());
  for (std::size_t size = 0; size < content.size(); ++size) {
    EXPECT_FALSE(parse_safetensors(content.substr(0, size)).has_value()) << size;
  }
}

TEST(Safetensors, RefusesWhatDoesNotAddUp) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "do not make up"},
      {R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", "dtype"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "not a size"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",
       "do not make up"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", "not inside"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "begins at byte 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "4 bytes follow"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}})", "not inside"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "stands twice"},
      {R"({"a":[1]})", "expected an object"},
      {R"({"__metadata__":{"a":1}})", "must be a string"},
      {R"([[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]])", "not a JSON object"},
      {R"({"a":)", "not a JSON object"},
  };
  for (const auto& [header, message] : cases) {
    const auto read = parse_safetensors(with_header(header, 8));
    ASSERT_FALSE(read.has_value()) << header;
    EXPECT_NE(read.error().message.find(message), std::string::npos) << read.error().message;
  }
}

TEST(Safetensors, SurvivesRandomDamage) {
  const std::string content = print_safetensors(sample());
  std::mt19937 rng(7);
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = content;
    for (int k = 0; k < 3; ++k) {
      damaged[rng() % damaged.size()] = static_cast<char>(rng());
    }
    (void)parse_safetensors(damaged);  // an answer of either kind; the sanitizers watch the rest
  }
}

}  // namespace
}  // namespace dojo::run
