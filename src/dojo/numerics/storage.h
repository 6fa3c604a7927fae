// Storage as kernels read it: elements of one format somewhere in memory, addressed by an element
// offset and strides. Strides count elements; 0 broadcasts, negative ones are allowed.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "dojo/base/check.h"
#include "dojo/base/format.h"
#include "dojo/numerics/cfloat.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics {

struct Storage {
  const void* data = nullptr;
  StorageFormat type{};     // a float format or U8
  std::int64_t offset = 0;  // of the element with all indices 0
};

// Reads any element as FP32, exactly.
class ElementReader {
 public:
  explicit ElementReader(const Storage& storage)
      : bytes_(static_cast<const std::byte*>(storage.data) +
               storage.offset * bytes_of(storage.type.format)),
        format_(storage.type.format) {
    const bool is_byte = has_bias(format_) || format_ == Format::U8;
    DOJO_CHECK(is_byte || is_float(format_));
    for (std::uint32_t code = 0; is_byte && code < 256; ++code) {
      table_[code] =
          format_ == Format::U8
              ? static_cast<float>(code)
              : decode(cfloat_spec(format_, storage.type.bias, storage.type.denormals), code);
    }
  }

  float operator()(std::int64_t index) const {
    if (format_ == Format::F32) {
      float value = 0;
      std::memcpy(&value, bytes_ + index * 4, 4);
      return value;
    }
    if (format_ == Format::Bf16) {
      std::uint16_t code = 0;
      std::memcpy(&code, bytes_ + index * 2, 2);
      return decode_bf16(code);
    }
    return table_[static_cast<std::size_t>(bytes_[index])];
  }

  Format format() const { return format_; }
  const std::byte* bytes() const { return bytes_; }
  const std::array<float, 256>& table() const { return table_; }  // of one-byte formats

 private:
  const std::byte* bytes_;  // of the element with all indices 0
  Format format_;
  std::array<float, 256> table_{};
};

}  // namespace dojo::numerics
