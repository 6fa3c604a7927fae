#include "dojo/numerics/bias.h"

#include <algorithm>
#include <cmath>

#include "dojo/base/check.h"
#include "dojo/numerics/cfloat.h"

namespace dojo::numerics {

int bias_from_amax(Format format, float amax, int margin) {
  DOJO_CHECK(has_bias(format));
  if (!(amax > 0) || !std::isfinite(amax)) {
    return kMaxBias;
  }
  const CFloatSpec spec = cfloat_spec(format, 0);
  int exponent = 0;
  int largest_exponent = 0;
  const float fraction = std::frexp(amax, &exponent);
  const float largest = std::frexp(decode(spec, spec.max_magnitude()), &largest_exponent);
  const int bias = largest_exponent - exponent - (fraction > largest ? 1 : 0) - margin;
  return std::clamp(bias, 0, kMaxBias);
}

namespace {

int on_grid(const BiasPolicy& policy, int bias) { return bias / policy.grid * policy.grid; }

void note_amax(int window, float amax, BiasMemory& memory) {
  if (!std::isfinite(amax)) {
    return;
  }
  if (memory.amax.size() < static_cast<std::size_t>(window)) {
    memory.amax.push_back(amax);
  } else {
    memory.amax[static_cast<std::size_t>(memory.position)] = amax;
  }
  memory.position = (memory.position + 1) % window;
}

void learn(const BiasPolicy& policy, int bias, const EncodeStats& stats, std::int64_t elements,
           BiasMemory& memory) {
  if (!memory.learnt.has_value() && stats.amax == 0) {
    return;  // nothing was seen
  }
  const std::int64_t lost_above =
      kSaturationWeight * std::max<std::int64_t>(stats.saturated - stats.not_finite, 0);
  const bool is_range_too_small = lost_above > stats.zeroed;
  const bool is_range_too_large =
      stats.zeroed > lost_above && kZeroedShare * stats.zeroed > elements;
  memory.learnt = bias;
  memory.votes = is_range_too_large || memory.votes < 0 ? memory.votes + 1 : 0;
  if (is_range_too_small) {
    memory.learnt = std::max(bias - policy.grid, 0);
    memory.votes = -kRest;
  } else if (memory.votes == kPatience) {
    memory.learnt = on_grid(policy, std::min(bias + policy.grid, kMaxBias));
    memory.votes = 0;
  }
}

}  // namespace

bool follows_pass(const BiasPolicy& policy, const BiasMemory& memory) {
  switch (policy.rule) {
    case BiasRule::Delayed:
      return memory.amax.empty();
    case BiasRule::Current:
      return true;
    case BiasRule::Fixed:
      return false;
    case BiasRule::Learnt:
      return !memory.learnt.has_value();
  }
  DOJO_CHECK(false);
}

int choose_bias(const BiasPolicy& policy, Format format, const BiasMemory& memory,
                float current_amax) {
  if (policy.rule == BiasRule::Fixed) {
    return policy.fixed_bias(format);
  }
  if (policy.rule == BiasRule::Learnt && memory.learnt.has_value()) {
    return *memory.learnt;
  }
  const bool has_history = policy.rule == BiasRule::Delayed && !memory.amax.empty();
  const float amax =
      has_history ? *std::max_element(memory.amax.begin(), memory.amax.end()) : current_amax;
  return on_grid(policy, bias_from_amax(format, amax, policy.margin));
}

void note_step(const BiasPolicy& policy, int bias, const EncodeStats& stats, std::int64_t elements,
               BiasMemory& memory) {
  if (policy.rule == BiasRule::Delayed) {
    note_amax(policy.window, stats.amax, memory);
  } else if (policy.rule == BiasRule::Learnt) {
    learn(policy, bias, stats, elements, memory);
  }
}

bool is_sound(const BiasPolicy& policy, const BiasMemory& memory) {
  const bool is_delayed = policy.rule == BiasRule::Delayed;
  const bool is_learnt = policy.rule == BiasRule::Learnt;
  const bool fits_window = std::ssize(memory.amax) <= (is_delayed ? policy.window : 0) &&
                           memory.position >= 0 &&
                           memory.position < (is_delayed ? policy.window : 1);
  const int learnt = memory.learnt.value_or(0);
  return fits_window && (is_learnt || !memory.learnt.has_value()) && learnt >= 0 &&
         learnt <= kMaxBias && learnt % policy.grid == 0 &&
         memory.votes >= (is_learnt ? -kRest : 0) && memory.votes < (is_learnt ? kPatience : 1);
}

}  // namespace dojo::numerics
