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
    DOJO_CHECK(is_float(format_) || format_ == Format::U8);
    if (is_float(format_)) {
      spec_ = storage.type.spec();
    }
    for (std::uint32_t code = 0; bytes_of(format_) == 1 && code < 256; ++code) {
      table_[code] = format_ == Format::U8 ? static_cast<float>(code) : decode(spec_, code);
    }
  }

  float operator()(std::int64_t index) const {
    switch (bytes_of(format_)) {
      case 1:
        return table_[static_cast<std::size_t>(bytes_[index])];
      case 2: {
        std::uint16_t code = 0;
        std::memcpy(&code, bytes_ + index * 2, 2);
        return format_ == Format::Bf16 ? decode_bf16(code) : decode(spec_, code);
      }
      default: {
        float value = 0;
        std::memcpy(&value, bytes_ + index * 4, 4);
        return value;
      }
    }
  }

  Format format() const { return format_; }
  const std::byte* bytes() const { return bytes_; }
  const std::array<float, 256>& table() const { return table_; }  // of one-byte formats

 private:
  const std::byte* bytes_;  // of the element with all indices 0
  Format format_;
  CFloatSpec spec_{};
  std::array<float, 256> table_{};
};

}  // namespace dojo::numerics
