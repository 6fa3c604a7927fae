#include "dojo/mesh/counters.h"

#include <cmath>
#include <numeric>

namespace dojo::mesh {

std::uint32_t LatencyHistogram::percentile(double share) const {
  const std::uint64_t all = std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
  std::uint64_t seen = 0;
  for (int bin = 0; bin < kBins && wanted > 0; ++bin) {
    seen += counts_[static_cast<std::size_t>(bin)];
    if (seen >= wanted) {
      return top_of(bin);
    }
  }
  return 0;
}

void Counters::add(const Counters& other) {
  entered_flits += other.entered_flits;
  entered_generated_sum += other.entered_generated_sum;
  measured_entered += other.measured_entered;
  measured_routers += other.measured_routers;
  injected_flits += other.injected_flits;
  flits += other.flits;
  flit_latency_sum += other.flit_latency_sum;
  flit_generated_sum += other.flit_generated_sum;
  last_arrival = std::max(last_arrival, other.last_arrival);
  packets += other.packets;
  latency_sum += other.latency_sum;
  latency_square_sum += other.latency_square_sum;
  latency_max = std::max(latency_max, other.latency_max);
  histogram.add(other.histogram);
}

void Counters::forget_packets() {
  measured_entered = 0;
  measured_routers = 0;
  packets = 0;
  latency_sum = 0;
  latency_square_sum = 0;
  latency_max = 0;
  histogram = {};
}

}  // namespace dojo::mesh
