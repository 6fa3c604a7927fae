// For tests: encodes FP32 magnitudes in ascending order through the array encoder and holds each
// code against the oracle. Ascending order makes the oracle a walk along its midpoints, so a sweep
// over billions of inputs takes seconds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "dojo/numerics/encode.h"
#include "dojo/numerics/grid_oracle.h"
#include "dojo/numerics/testing.h"

namespace dojo::numerics::testing {

struct SweepResult {
  std::int64_t inputs = 0;
  std::int64_t mismatches = 0;
  std::int64_t wrong_counts = 0;  // ranges whose EncodeStats are not the oracle's
  float example = 0;              // the first mismatch
};

// Magnitudes (as FP32 bits) up to `last` have this code.
struct SweepSegment {
  std::uint64_t last = 0;
  std::uint32_t code = 0;
};

inline constexpr std::uint64_t kSweepInfinity = 0x7F800000;

inline std::vector<SweepSegment> sweep_segments(const GridOracle& oracle) {
  std::vector<SweepSegment> segments;
  for (std::size_t i = 0; i < oracle.middles().size(); ++i) {
    const std::uint32_t middle = bits_of(static_cast<float>(oracle.middles()[i]));  // exact
    segments.push_back({i % 2 == 0 ? middle : middle - 1u, oracle.nearest(oracle.values()[i])});
  }
  const std::uint32_t overflow = bits_of(static_cast<float>(oracle.overflow()));  // exact
  segments.push_back({oracle.overflows(oracle.overflow()) ? overflow - 1u : overflow,
                      oracle.nearest(oracle.values().back())});
  segments.push_back({kSweepInfinity, oracle.nearest(std::numeric_limits<double>::infinity())});
  segments.push_back({std::numeric_limits<std::uint64_t>::max(),
                      oracle.code(std::numeric_limits<float>::quiet_NaN(), {}, 0)});
  return segments;
}

class Sweep {
 public:
  Sweep(const StorageFormat& type, Isa isa)
      : type_(type), isa_(isa), spec_(type.spec()), segments_(sweep_segments(GridOracle(spec_))) {}

  // Magnitudes first, first + stride, ... below `end` (bits), signs alternating. Ascending over
  // calls, too.
  void run(std::uint64_t first, std::uint64_t end, std::uint64_t stride) {
    for (std::uint64_t base = first; base < end; base += kBlock * stride) {
      const std::size_t count = std::min<std::size_t>(
          kBlock, static_cast<std::size_t>((end - base + stride - 1) / stride));
      check_block(base, stride, count);
    }
  }
  const SweepResult& result() const { return result_; }

 private:
  static constexpr std::size_t kBlock = 4096;

  void check_block(std::uint64_t base, std::uint64_t stride, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t sign = static_cast<std::uint32_t>(i % 2) << 31;
      x_[i] = std::bit_cast<float>(static_cast<std::uint32_t>(base + i * stride) | sign);
    }
    const std::size_t width = static_cast<std::size_t>(bytes_of(type_.format));
    const EncodeStats stats = encode(std::span(x_).first(count), type_, RoundingSpec{},
                                     std::span(code_).first(count * width), isa_);
    EncodeStats wanted;
    std::int64_t mismatches = 0;
    for (std::size_t i = 0; i < count;) {
      // All inputs up to the end of the segment have one code.
      const std::uint64_t bits = base + i * stride;
      while (bits > segments_[at_].last) {
        ++at_;
      }
      std::size_t run = count - i;
      if (segments_[at_].last < bits + (run - 1) * stride) {
        run = static_cast<std::size_t>((segments_[at_].last - bits) / stride + 1);
      }
      mismatches +=
          width == 1 ? mismatches_in<std::uint8_t>(i, run) : mismatches_in<std::uint16_t>(i, run);
      note(wanted, bits, i, run);
      i += run;
    }
    if (mismatches != 0 && result_.mismatches == 0) {
      result_.example = x_[0];
    }
    const std::uint64_t top = base + (count - 1) * stride;
    wanted.amax = top < kSweepInfinity ? std::fabs(x_[count - 1]) : stats.amax;
    result_.wrong_counts += stats == wanted ? 0 : 1;
    result_.mismatches += mismatches;
    result_.inputs += static_cast<std::int64_t>(count);
  }

  // The code of the segment with a sign; of a format without sign, 0 for what is negative.
  std::uint32_t wanted_code(bool is_negative) const {
    const bool is_nan = at_ + 1 == segments_.size();
    const std::uint32_t code = segments_[at_].code;
    if (!is_negative || (!spec_.has_sign && is_nan)) {
      return code;
    }
    return spec_.has_sign ? code | 1u << spec_.sign_shift() : 0u;
  }

  template <class Code>
  std::int64_t mismatches_in(std::size_t first, std::size_t run) const {
    const Code wanted[2] = {static_cast<Code>(wanted_code(false)),
                            static_cast<Code>(wanted_code(true))};
    std::int64_t mismatches = 0;
    for (std::size_t i = first; i < first + run; ++i) {
      Code code = 0;
      std::memcpy(&code, code_.data() + i * sizeof(Code), sizeof(Code));
      mismatches += code != wanted[i % 2] ? 1 : 0;
    }
    return mismatches;
  }

  void note(EncodeStats& wanted, std::uint64_t bits, std::size_t first, std::size_t run) const {
    const auto count = static_cast<std::int64_t>(run);
    const std::int64_t negative = static_cast<std::int64_t>((first + run) / 2 - first / 2);
    const std::int64_t zeros = bits == 0 ? 1 : 0;
    const bool is_nan = at_ + 1 == segments_.size();
    const bool is_beyond = at_ + 2 == segments_.size();
    // Of the inputs beyond the range the last one may be Inf.
    const bool has_infinity = is_beyond && std::isinf(x_[first + run - 1]);
    const bool infinity_is_negative = (first + run - 1) % 2 == 1;
    note_flags(wanted.flags, first, run);
    if (is_nan) {
      wanted.not_finite += count;
      wanted.saturated += spec_.has_nan() ? 0 : count;
      return;
    }
    wanted.not_finite += has_infinity ? 1 : 0;
    if (!spec_.has_sign) {
      const std::int64_t positive = count - negative;
      const bool infinity_stays = has_infinity && spec_.keeps_infinity() && !infinity_is_negative;
      wanted.zeroed += negative + (segments_[at_].code == 0 ? positive - zeros : 0);
      wanted.saturated += negative + (is_beyond ? positive - (infinity_stays ? 1 : 0) : 0);
      return;
    }
    wanted.zeroed += segments_[at_].code == 0 ? count - zeros : 0;
    wanted.saturated += is_beyond ? count - (has_infinity && spec_.keeps_infinity() ? 1 : 0) : 0;
  }

  // Of inputs with one code: as the first four of them have it. Signs alternate, and at most one
  // magnitude is zero, or exact (or Inf, which is the last).
  void note_flags(Flags& wanted, std::size_t first, std::size_t run) const {
    const bool is_beyond = at_ + 2 == segments_.size();
    const std::uint32_t code = segments_[at_].code;
    const bool is_small = code < spec_.min_normal_magnitude();
    for (std::size_t i = first; i < first + std::min<std::size_t>(run, 4); ++i) {
      const float magnitude = std::fabs(x_[i]);
      if (std::isnan(magnitude) || (!spec_.has_sign && std::signbit(x_[i]))) {
        wanted.invalid |= magnitude != 0;
        continue;
      }
      wanted.denormal |= magnitude != 0 && magnitude < std::numeric_limits<float>::min();
      wanted.overflow |= is_beyond && !(std::isinf(magnitude) && spec_.keeps_infinity());
      wanted.underflow |= is_small && magnitude != decode(spec_, code);
    }
  }

  StorageFormat type_;
  Isa isa_;
  CFloatSpec spec_;
  std::vector<SweepSegment> segments_;
  std::size_t at_ = 0;
  std::vector<float> x_ = std::vector<float>(kBlock);
  std::vector<std::byte> code_ = std::vector<std::byte>(2 * kBlock);
  SweepResult result_;
};

inline SweepResult sweep_nearest(const StorageFormat& type, std::uint64_t first, std::uint64_t end,
                                 std::uint64_t stride, Isa isa) {
  Sweep sweep(type, isa);
  sweep.run(first, end, stride);
  return sweep.result();
}

// Every float format of 8 and 16 bits at a bias (once if it has none), both readings of denormals.
inline std::vector<StorageFormat> encoded_formats(int bias, int first_bias) {
  std::vector<StorageFormat> types;
  for (const FormatInfo& row : kFormats) {
    if (!is_float(row.format) || row.format == Format::F32 ||
        (!has_bias(row.format) && bias != first_bias)) {
      continue;
    }
    types.push_back({row.format, bias, DenormalScale::Paper});
    if (row.denormals == DenormalRule::Selectable) {
      types.push_back({row.format, bias, DenormalScale::Gradual});
    }
  }
  return types;
}

}  // namespace dojo::numerics::testing
