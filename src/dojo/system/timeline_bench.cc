// timeline_bench [FILE.program MACHINE]...: seconds of re-timing Programs of 10,000 phases (the
// file's, one step after another, on as many replicas as the machine has) with both sharings; and
// of an all-reduce on 1,024 members of rings, message by message. JSON on stdout.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "dojo/cost/ring.h"
#include "dojo/machine/description.h"
#include "dojo/program/program_text.h"
#include "dojo/system/timeline.h"

namespace {

using dojo::PhaseId;
using dojo::program::Compute;
using dojo::program::Phase;
using dojo::program::Program;

constexpr std::size_t kPhases = 10'000;
constexpr int kRuns = 5;

double seconds_of(const auto& action) {
  std::vector<double> seconds;
  for (int run = 0; run < kRuns; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    action();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[kRuns / 2];
}

// Steps one after the other, up to kPhases phases; memory is left out.
Program repeated(Program step) {
  const std::vector<Phase> one = std::move(step.phases);
  step.phases.clear();
  step.memory.clear();
  step.replicas.count = step.replicas.available;
  step.replicas.batch = step.replicas.count * step.replicas.block;
  for (std::size_t i = 0; i < kPhases; ++i) {
    Phase phase = one[i % one.size()];
    const auto offset = static_cast<std::uint32_t>(i / one.size() * one.size());
    for (PhaseId& before : phase.after) {
      before.index += offset;
    }
    if (auto* compute = std::get_if<Compute>(&phase.body)) {
      for (PhaseId& feed : compute->pipelined) {
        feed.index += offset;
      }
    }
    step.phases.push_back(std::move(phase));
  }
  return step;
}

std::string rings() {
  const dojo::cost::RingLink link{.rate = dojo::BytesPerSecond(50e9),
                                  .latency = dojo::Picoseconds(500'000)};
  const dojo::Bytes bytes(1 << 20);
  std::string text;
  for (const std::vector<int>& dimensions : {std::vector{1024}, std::vector{32, 32}}) {
    dojo::cost::RingRun run;
    dojo::Picoseconds formula{};
    const double simulated =
        seconds_of([&] { run = run_ring_all_reduce(dimensions, bytes, link); });
    const double closed = seconds_of([&] { formula = ring_all_reduce(dimensions, bytes, link); });
    text += fmt::format(
        "{}{{\"dimensions\": [{}], \"messages\": {}, \"picoseconds\": {}, "
        "\"formula_picoseconds\": {}, \"seconds\": {}, \"formula_seconds\": {}}}",
        text.empty() ? "" : ", ", fmt::join(dimensions, ", "), run.messages, run.end.count(),
        formula.count(), simulated, closed);
  }
  return text;
}

std::string retimed(const Program& program, const std::string& machine_name) {
  const dojo::machine::MachineModel machine = *dojo::machine::load_machine(machine_name);
  std::string text = fmt::format("{{\"machine\": \"{}\", \"nodes\": {}, \"phases\": {}",
                                 machine_name, machine.live_nodes(), program.phases.size());
  for (const dojo::system::Sharing sharing :
       {dojo::system::Sharing::Stated, dojo::system::Sharing::MaxMin}) {
    dojo::system::Timeline timeline;
    const double seconds =
        seconds_of([&] { timeline = dojo::system::time_program(program, machine, sharing); });
    text += fmt::format(", \"{}\": {}, \"{} step\": {}", dojo::system::name(sharing), seconds,
                        dojo::system::name(sharing), to_seconds(timeline.step));
  }
  return text + "}";
}

}  // namespace

int main(int argc, char** argv) {
  std::string machines;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string machine = argv[i + 1];
    const auto model = dojo::machine::load_machine(machine);
    const auto program = model.has_value() ? dojo::program::load_program(argv[i], *model)
                                           : dojo::Result<Program>(model.error());
    if (!program.has_value()) {
      fmt::print(stderr, "{}\n", program.error().to_string());
      return 1;
    }
    machines += (machines.empty() ? "" : ", ") + retimed(repeated(*program), machine);
  }
  fmt::print("{{\"rings\": [{}], \"retimed\": [{}]}}\n", rings(), machines);
  return 0;
}
