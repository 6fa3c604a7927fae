// The safetensors file format: an 8-byte little-endian header length, a JSON header, then the bytes
// of all tensors back to back. Source: the format section of github.com/huggingface/safetensors.
//
// Reading trusts nothing: the header's length, each dtype, shape and offset are checked against the
// size of the file, the tensors must cover the data without a hole or an overlap. Writing is
// deterministic: the same tensors and metadata give the same bytes (entries sorted by name).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dojo/base/result.h"

namespace dojo::run {

enum class SafetensorsDtype : std::uint8_t { F32, Bf16, U8, I32, I64, Bool };

std::string_view name_of(SafetensorsDtype dtype);
std::int64_t bytes_of(SafetensorsDtype dtype);  // per element

// One tensor, row-major. `bytes` holds exactly product(shape) elements.
struct SafetensorsEntry {
  SafetensorsDtype dtype = SafetensorsDtype::F32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

struct Safetensors {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

// From the whole content of a file. Errors say what is damaged.
Result<Safetensors> parse_safetensors(std::string_view content);

// The content of a file; every entry's `bytes` must fit its shape.
std::string print_safetensors(const Safetensors& tensors);

// The same from and to a file; errors name it.
Result<Safetensors> read_safetensors(const std::string& path);
Result<void> write_safetensors(const std::string& path, const Safetensors& tensors);

}  // namespace dojo::run
