#include <algorithm>
#include <cmath>
#include <numeric>

#include "dojo/search/search.h"

namespace dojo::search {
namespace {

// Ranks from 1; equal values share the middle of theirs.
std::vector<double> ranks(const std::vector<double>& values) {
  std::vector<double> out;
  for (const double value : values) {
    const auto less = std::count_if(values.begin(), values.end(),
                                    [value](double other) { return other < value; });
    const auto equal = std::count(values.begin(), values.end(), value);
    out.push_back(static_cast<double>(less) + static_cast<double>(equal + 1) / 2);
  }
  return out;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto count = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / count;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / count;
  double both = 0;
  double only_a = 0;
  double only_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    both += (a[i] - mean_a) * (b[i] - mean_b);
    only_a += (a[i] - mean_a) * (a[i] - mean_a);
    only_b += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return only_a > 0 && only_b > 0 ? both / std::sqrt(only_a * only_b) : 0;
}

}  // namespace

std::optional<Foresight> foresight(const std::vector<Candidate>& candidates) {
  std::vector<double> sketched;
  std::vector<double> timed;
  std::vector<double> ratios;
  for (const Candidate& one : candidates) {
    if (one.outcome == Outcome::Placed && one.sketched.has_value()) {
      sketched.push_back(to_seconds(*one.sketched));
      timed.push_back(to_seconds(one.step));
      ratios.push_back(timed.back() / sketched.back());
    }
  }
  if (ratios.size() < 3) {
    return std::nullopt;
  }
  const auto [least, largest] = std::minmax_element(ratios.begin(), ratios.end());
  return Foresight{correlation(ranks(sketched), ranks(timed)), *least, *largest};
}

}  // namespace dojo::search
