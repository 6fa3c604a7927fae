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
  const FormatInfo& row = info(format);
  int exponent = 0;
  const float fraction = 2 * std::frexp(amax, &exponent);  // in [1, 2)
  exponent -= 1;
  const float top = 2 - std::ldexp(1.0F, -row.mantissa_bits);
  const int max_exponent = (1 << row.exponent_bits) - 1;
  const int bias = max_exponent - exponent - (fraction > top ? 1 : 0) - margin;
  return std::clamp(bias, 0, kMaxBias);
}

void BiasWindow::push(float amax) {
  DOJO_CHECK(length >= 1);
  if (!std::isfinite(amax)) {
    return;
  }
  if (history.size() < static_cast<std::size_t>(length)) {
    history.push_back(amax);
  } else {
    history[static_cast<std::size_t>(position)] = amax;
  }
  position = (position + 1) % length;
}

int BiasWindow::bias(Format format, float current_amax, int margin) const {
  const float amax =
      history.empty() ? current_amax : *std::max_element(history.begin(), history.end());
  return bias_from_amax(format, amax, margin);
}

}  // namespace dojo::numerics
