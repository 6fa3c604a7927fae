// The exponent bias of a tensor of a configurable float: one per tensor and step, chosen by a rule
// from what the tensor's passes have shown. A bias goes up by one to halve the range, which keeps
// smaller values from becoming zero, and down by one to double it.
//
//   Delayed  bias_from_amax of the largest amax of the last `window` steps, less `margin`. While
//            there is no history, as Current.
//   Current  bias_from_amax of the amax of the very pass, less `margin`: the pass runs twice.
//   Fixed    the policy's bias of the format, always.
//   Learnt   begins as Current, at the first step whose amax is not 0. After each step, with S
//            saturated finite elements and Z zeroed ones of N: goes down by one if
//            kSaturationWeight S > Z, and then does not rise for kRest steps; goes up by one after
//            kPatience steps in a row with Z > kSaturationWeight S and kZeroedShare Z > N; else
//            stays. So it looks for the least max(kSaturationWeight S, Z), of which the first term
//            falls with the range and the second grows, and stays where too little is lost to
//            matter. Tesla's paper only says that biases "can be learnt during the training"; the
//            rule and its numbers are ours.
//
// With a grid above 1 every bias is rounded down to a multiple of it (the range only grows), and a
// learnt bias moves by the grid.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "dojo/base/bias_policy.h"
#include "dojo/base/format.h"
#include "dojo/numerics/encode.h"

namespace dojo::numerics {

// The largest bias, 0 .. 63, at which amax is still in range, less `margin` binades of headroom:
// clamp(floor(log2(max / amax)) - margin, 0, 63) with the largest finite value at bias 0, computed
// exactly. 63 for amax = 0 and for an amax that is not finite (no information).
int bias_from_amax(Format format, float amax, int margin);

inline constexpr std::int64_t kSaturationWeight = 256;  // zeroed elements that one saturated counts
inline constexpr std::int64_t kZeroedShare = 1024;      // one zeroed element in so many is harmless
inline constexpr int kPatience = 4;
inline constexpr int kRest = 60;

// What a tensor carries from step to step. Plain data: saved and restored as it is.
struct BiasMemory {
  std::vector<float> amax{};    // Delayed: at most `window` values, a ring
  std::int64_t position = 0;    // of the next value to write
  std::optional<int> learnt{};  // Learnt: the bias of the coming step
  int votes = 0;                // steps in a row that wanted it higher; below 0: it rests
  friend bool operator==(const BiasMemory&, const BiasMemory&) = default;
};

// Whether the bias of the coming step follows the amax of its own pass.
bool follows_pass(const BiasPolicy& policy, const BiasMemory& memory);

// The bias of the coming step; `current_amax` counts only if follows_pass().
int choose_bias(const BiasPolicy& policy, Format format, const BiasMemory& memory,
                float current_amax);

// Notes a step that stored `elements` elements with that bias. Allocates nothing once the memory
// has its full length.
void note_step(const BiasPolicy& policy, int bias, const EncodeStats& stats, std::int64_t elements,
               BiasMemory& memory);

// Whether the memory is one that note_step() can have made.
bool is_sound(const BiasPolicy& policy, const BiasMemory& memory);

}  // namespace dojo::numerics
