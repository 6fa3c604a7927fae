// dojo plan FILE.graph --machine M
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "dojo/graph/nest.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/text.h"
#include "dojo/machine/description.h"
#include "dojo/program/program_text.h"
#include "dojo/search/search.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"
#include "dojo/tools/placing.h"
#include "dojo/tools/searching.h"

namespace dojo::tools {
namespace {

using search::Candidate;
using search::Outcome;
using search::Search;

struct PlanOptions {
  StepOptions step;
  SearchLimits limits;
  std::string json_path;
  std::string program_path;
  std::string lowered_path;
};

std::string_view name(Outcome outcome) {
  switch (outcome) {
    case Outcome::Placed:
      return "placed";
    case Outcome::DoesNotFit:
      return "does not fit";
    case Outcome::PassedOver:
      return "passed over";
  }
  return "";
}

std::string words(const place::Choice& choice) {
  const std::string groups = choice.has_groups ? ", in groups"
                             : choice.free_groups > 1
                                 ? fmt::format(", {} groups", choice.free_groups)
                                 : "";
  return fmt::format(
      "{}{}x{} dies, {} a replica{}{}{}{}",
      choice.stages > 1 ? fmt::format("{} stages of ", choice.stages) : "", choice.dies.rows,
      choice.dies.columns, counted(choice.block, "sample"),
      choice.micro_batches > 1 ? fmt::format(" in {} micro-batches", choice.micro_batches) : "",
      groups, choice.streams_states ? ", states in DRAM" : "",
      choice.deals.empty()
          ? ""
          : fmt::format(", {} of ops split anew", counted(std::ssize(choice.deals), "kind")));
}

// A kind of op that the plan splits otherwise than the rules.
struct NewSplit {
  std::string op;
  std::string module;  // of the first
  std::int64_t count = 0;
  std::string groups;  // the loop over groups; empty: none
  std::string rows;    // over node.y
  std::string columns;
};

std::vector<NewSplit> new_splits(const graph::Graph& graph, const place::Choice& choice) {
  const std::vector<int> kinds = place::op_kinds(graph);
  std::vector<NewSplit> out;
  for (const place::Deal& deal : choice.deals) {
    const auto first = std::find(kinds.begin(), kinds.end(), deal.kind);
    const graph::Op& op = graph.ops[static_cast<std::size_t>(first - kinds.begin())];
    const graph::LoopNest nest = graph::nest_of(graph, op);
    const auto name = [&](int loop) {
      const auto index = static_cast<std::size_t>(loop);
      return index < nest.loops.size() ? nest.loops[index].name : "";
    };
    out.push_back({.op = std::string(op.info->name),
                   .module = op.module,
                   .count = std::count(kinds.begin(), kinds.end(), deal.kind),
                   .groups = name(deal.group_loop),
                   .rows = name(deal.row_loop),
                   .columns = name(deal.column_loop)});
  }
  return out;
}

nlohmann::ordered_json as_json(const Candidate& one) {
  nlohmann::ordered_json json{{"dies", {one.choice.dies.rows, one.choice.dies.columns}},
                              {"stages", one.choice.stages},
                              {"samples_per_replica", one.choice.block},
                              {"micro_batches", one.choice.micro_batches},
                              {"groups", one.choice.has_groups},
                              {"free_groups", one.choice.free_groups},
                              {"splits", one.choice.deals.size()},
                              {"fits", one.outcome != Outcome::DoesNotFit},
                              {"outcome", name(one.outcome)}};
  if (one.outcome != Outcome::Placed) {
    json["why"] = one.why;
    return json;
  }
  json["replicas"] = one.replicas;
  json["step_seconds"] = to_seconds(one.step);
  if (one.sketched.has_value()) {
    json["sketched_seconds"] = to_seconds(*one.sketched);
  }
  json["lower_bound_seconds"] = to_seconds(one.lower);
  json["serial_seconds"] = to_seconds(one.serial);
  json["energy_joules"] = one.energy.count();
  json["sram_peak_bytes_per_node"] = one.sram_peak_per_node.count();
  json["on_front"] = one.is_on_front;
  return json;
}

void print_plans(const Search& found, const graph::Graph& graph) {
  fmt::print("{} ({}) on {}: {} of {} candidates looked at{}\n\n", graph.name,
             graph.lowering->recipe, graph.lowering->machine, found.candidates.size(), found.known,
             found.was_cut ? ", then cut short" : "");
  Table table({{"replica"},
               {"replicas", Align::Right},
               {"step", Align::Right},
               {"bounds"},
               {"energy", Align::Right},
               {"SRAM a node", Align::Right},
               {""}});
  const auto seconds = [](Picoseconds time) { return as_time(to_seconds(time)); };
  for (std::size_t i = 0; i < found.candidates.size(); ++i) {
    const Candidate& one = found.candidates[i];
    if (one.outcome != Outcome::Placed) {
      continue;
    }
    table.add_row({words(one.choice), std::to_string(one.replicas), seconds(one.step),
                   fmt::format("{} .. {}", seconds(one.lower), seconds(one.serial)),
                   with_prefix(one.energy.count(), "J"),
                   with_prefix(static_cast<double>(one.sram_peak_per_node.count()), "B"),
                   found.best == i   ? "quickest"
                   : one.is_on_front ? "on the front"
                                     : ""});
  }
  table.print();
}

void print_splits(const Search& found, const graph::Graph& graph) {
  const std::vector<NewSplit> splits = new_splits(graph, found.candidates[*found.best].choice);
  if (splits.empty()) {
    return;
  }
  fmt::print("\nThe quickest splits these otherwise than the rules do:\n\n");
  Table table({{"op"}, {"first of"}, {"ops", Align::Right}, {"group"}, {"node.y"}, {"node.x"}});
  const auto loop = [](const std::string& name) { return name.empty() ? "-" : name; };
  for (const NewSplit& one : splits) {
    table.add_row({one.op, one.module, std::to_string(one.count), loop(one.groups), loop(one.rows),
                   loop(one.columns)});
  }
  table.print();
}

void print_foresight(const Search& found) {
  const auto how = search::foresight(found.candidates);
  if (how.has_value()) {
    fmt::print(
        "\n{} splits were sketched. Of those that were placed the step took {:.2f} to {:.2f} times "
        "what the sketch said; rank correlation {:.2f}.\n",
        found.sketches, how->least_ratio, how->largest_ratio, how->rank_correlation);
  }
}

nlohmann::ordered_json splits_as_json(const Search& found, const graph::Graph& graph) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (const NewSplit& one : new_splits(graph, found.candidates[*found.best].choice)) {
    out.push_back({{"op", one.op},
                   {"module", one.module},
                   {"ops", one.count},
                   {"group", one.groups},
                   {"node.y", one.rows},
                   {"node.x", one.columns}});
  }
  return out;
}

void plan(const PlanOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const machine::Description description =
      value_of(machine::load_description(options.step.machine));
  const SearchedStep searched = searched_step(options.step, description, options.limits);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  const Search& found = searched.found;
  const place::PlacedStep& best = searched.best;
  if (!options.program_path.empty()) {
    write_text(options.program_path, program::print_program(best.program));
  }
  if (!options.lowered_path.empty()) {
    write_text(options.lowered_path, graph::print_graph(best.graph));
  }
  if (options.json_path.empty()) {
    print_plans(found, best.graph);
    print_splits(found, best.graph);
    print_foresight(found);
    return;
  }
  nlohmann::ordered_json plans = nlohmann::ordered_json::array();
  for (const Candidate& one : found.candidates) {
    plans.push_back(as_json(one));
  }
  write_json({{"graph", best.graph.name},
              {"recipe", best.graph.lowering->recipe},
              {"machine", best.graph.lowering->machine},
              {"lowered_graph_sha256", graph::graph_sha256(best.graph)},
              {"known_candidates", found.known},
              {"search_candidates", found.candidates.size()},
              {"sketches", found.sketches},
              {"cut_short", found.was_cut},
              {"best", *found.best},
              {"splits", splits_as_json(found, best.graph)},
              {"plans", std::move(plans)},
              {"wall_seconds", wall.count()}},
             options.json_path);
}

}  // namespace

void add_plan_command(CLI::App& app) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand(
      "plan",
      "Try every replica a step could have on a machine, and other splits of its ops: the front of "
      "time, energy, memory");
  command->add_option("graph", options->step.file, "The step's Graph, lowered or not")
      ->type_name("FILE")
      ->required();
  add_step_options(*command, options->step);
  add_search_options(*command, options->limits, "");
  command->add_option("--json", options->json_path, "Write it as JSON; - is stdout")
      ->type_name("FILE");
  command->add_option("-o,--output", options->program_path, "Write the quickest plan's Program")
      ->type_name("FILE");
  command
      ->add_option("--lowered", options->lowered_path,
                   "Write the lowered Graph, its sums cut as that plan cuts them")
      ->type_name("FILE");
  command->callback([options] { plan(*options); });
}

}  // namespace dojo::tools
