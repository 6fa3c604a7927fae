#include "dojo/mesh/measure.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "dojo/mesh/internal/watch.h"

namespace dojo::mesh {
namespace {

double ratio(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b);
}

// What arrived by a cycle, and what was under way in it. The mesh counts a flit when it is granted
// to its node, eject_delay cycles before it is there: so this runs in two steps.
struct Moment {
  Counters arrived;
  Counters entered;
  std::vector<std::uint64_t> flits_of_node;
};

// Stops early, with a trap, if something waits for ever.
void run_watched(Mesh& mesh, Cycle end, internal::Watch& watch, std::string& trap) {
  while (mesh.now() < end && trap.empty()) {
    mesh.run_until(std::min(end, mesh.now() + internal::Watch::kPeriod));
    trap = watch.check(mesh);
  }
}

Moment run_to(Mesh& mesh, Cycle end, internal::Watch& watch, std::string& trap) {
  const auto eject = static_cast<Cycle>(mesh.router().eject_delay);
  Moment moment;
  run_watched(mesh, end - std::min(end, eject), watch, trap);
  moment.arrived = mesh.counters();
  for (const std::uint32_t node : mesh.nodes()) {
    moment.flits_of_node.push_back(mesh.flits_received(node));
  }
  run_watched(mesh, end, watch, trap);
  moment.entered = mesh.counters();
  return moment;
}

bool has_settled(double before, double now, double share) {
  return now > 0 && std::abs(now - before) / now < share;
}

// (Latencies of counted packets + ages of the flits under way) / (packets + flits under way).
bool is_unstable(const Counters& arrived, const Counters& entered, Cycle now, double threshold) {
  const std::uint64_t flits = entered.entered_flits - arrived.flits;
  const std::uint64_t generated = entered.entered_generated_sum - arrived.flit_generated_sum;
  const std::uint64_t ages = flits * now - generated;
  return ratio(arrived.latency_sum + ages, arrived.packets + flits) > threshold;
}

void fill_accepted(Measurement& result, const Moment& begin, const Moment& end, Cycle cycles) {
  std::uint64_t sum = 0;
  std::uint64_t least = ~std::uint64_t{0};
  for (std::size_t node = 0; node < end.flits_of_node.size(); ++node) {
    const std::uint64_t flits = end.flits_of_node[node] - begin.flits_of_node[node];
    sum += flits;
    least = std::min(least, flits);
  }
  result.accepted = ratio(sum, std::uint64_t{cycles} * end.flits_of_node.size());
  result.accepted_minimum = ratio(least, cycles);
}

// Periods until the load has settled. Returns the moment of the last one's end.
Moment run_periods(Mesh& mesh, const Protocol& protocol, const Moment& start,
                   internal::Watch& watch, Measurement& result) {
  double latency = ratio(start.arrived.latency_sum, start.arrived.packets);
  double accepted = ratio(start.arrived.flits, mesh.now());
  const Cycle from = mesh.now();
  Moment end;
  int settled = 0;
  for (int done = protocol.warmup_periods; done < protocol.max_periods && settled < 3; ++done) {
    end = run_to(mesh, mesh.now() + protocol.period, watch, result.trap);
    const double new_latency = ratio(end.arrived.latency_sum, end.arrived.packets);
    const double new_accepted = ratio(end.arrived.flits - start.arrived.flits, mesh.now() - from);
    result.saturated = is_unstable(end.arrived, end.entered, mesh.now(), protocol.unstable);
    if (result.saturated || !result.trap.empty()) {
      break;
    }
    const bool is_settled = has_settled(latency, new_latency, protocol.settled) &&
                            has_settled(accepted, new_accepted, protocol.settled);
    settled = is_settled ? settled + 1 : 0;
    latency = new_latency;
    accepted = new_accepted;
  }
  return end;
}

// The load stays on until every counted packet is there.
Counters drain(Mesh& mesh, const Protocol& protocol, internal::Watch& watch, Measurement& result) {
  mesh.start_draining();
  Counters now = mesh.counters();
  for (int drained = 1;
       !result.saturated && result.trap.empty() && now.packets < now.measured_entered; ++drained) {
    mesh.run_until(mesh.now() + 1);
    now = mesh.counters();
    if (drained % 1000 == 0) {
      result.saturated = is_unstable(now, now, mesh.now(), protocol.unstable);
      result.trap = watch.check(mesh);
    }
  }
  mesh.run_until(mesh.now() + static_cast<Cycle>(mesh.router().eject_delay));
  return now;
}

void fill_latencies(Measurement& result, const Counters& before, const Counters& now) {
  result.mean_packet_latency = ratio(now.latency_sum, now.packets);
  result.max_packet_latency = now.latency_max;
  result.mean_flit_latency =
      ratio(now.flit_latency_sum - before.flit_latency_sum, now.flits - before.flits);
  result.mean_routers_visited = ratio(now.measured_routers, now.measured_entered);
  result.histogram = now.histogram;
}

}  // namespace

Measurement measure_latency(Mesh& mesh, const Protocol& protocol) {
  Measurement result;
  internal::Watch watch(mesh);
  const Moment start =
      run_to(mesh, mesh.now() + protocol.period * static_cast<Cycle>(protocol.warmup_periods),
             watch, result.trap);
  mesh.start_measuring();
  const Cycle from = mesh.now();
  const Moment end = run_periods(mesh, protocol, start, watch, result);
  fill_accepted(result, start, end, mesh.now() - from);
  const Counters now = drain(mesh, protocol, watch, result);
  fill_latencies(result, start.arrived, now);
  result.cycles = mesh.now();
  result.traversals = mesh.flits_moved();
  return result;
}

Measurement measure_throughput(Mesh& mesh, Cycle cycles) {
  Measurement result;
  const Cycle end_of_warmup = mesh.now() + cycles / 10;
  const Cycle end_of_run = mesh.now() + cycles;
  internal::Watch watch(mesh);
  const Moment start = run_to(mesh, end_of_warmup, watch, result.trap);
  mesh.start_measuring();
  const Moment end = run_to(mesh, end_of_run, watch, result.trap);
  fill_accepted(result, start, end, end_of_run - end_of_warmup);
  fill_latencies(result, start.arrived, end.arrived);
  result.cycles = mesh.now();
  result.traversals = mesh.flits_moved();
  return result;
}

}  // namespace dojo::mesh
