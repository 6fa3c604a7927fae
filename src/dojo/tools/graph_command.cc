// dojo graph show FILE | stats FILE | ops (eval is in eval_command.cc)
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "dojo/base/text.h"
#include "dojo/graph/op_table.h"
#include "dojo/graph/statistics.h"
#include "dojo/graph/text.h"
#include "dojo/tools/api_error.h"
#include "dojo/tools/commands.h"
#include "dojo/tools/output.h"

namespace dojo::tools {
namespace {

using graph::Graph;
using graph::OpStatistics;
using graph::Statistics;

std::string bytes(Bytes size) { return with_prefix(static_cast<double>(size.count()), "B"); }
std::string count(std::int64_t value) { return with_prefix(static_cast<double>(value), ""); }

void show_graph(const std::string& file) {
  fmt::print("{}", graph::print_graph(value_of(graph::load_graph(file))));
}

void add_row(Table& table, std::string name, const OpStatistics& each) {
  table.add_row({std::move(name), count(each.matrix_flops.count()), count(each.macs_inside),
                 count(each.vector_ops), count(each.special_ops), count(each.conversions),
                 bytes(each.bytes_read), bytes(each.bytes_written)});
}

Table statistics_table(std::string_view what) {
  return Table({{std::string(what)},
                {"matrix FLOP", Align::Right},
                {"MACs inside", Align::Right},
                {"vector ops", Align::Right},
                {"special ops", Align::Right},
                {"roundings", Align::Right},
                {"read", Align::Right},
                {"written", Align::Right}});
}

void print_totals(const Graph& graph, const Statistics& statistics) {
  fmt::print("{}: {} ops, {} parameters{}\n", graph.name, with_commas(std::ssize(graph.ops)),
             with_commas(statistics.parameters),
             graph.is_lowered() ? fmt::format(", lowered with recipe {} for {}",
                                              graph.lowering->recipe, graph.lowering->machine)
                                : "");
  fmt::print("sha256 {}\n\n", graph::graph_sha256(graph));
  Table phases = statistics_table("phase");
  add_row(phases, "forward", statistics.by_phase[0]);
  add_row(phases, "backward", statistics.by_phase[1]);
  add_row(phases, "update", statistics.by_phase[2]);
  add_row(phases, "total", statistics.total());
  phases.print();
  fmt::print("\nWeights {}, states {}, buffers {}, inputs {}.\n", bytes(statistics.weight_bytes),
             bytes(statistics.state_bytes), bytes(statistics.buffer_bytes),
             bytes(statistics.input_bytes));
  fmt::print("Saved for backward {}; in FP32 it would be {}.\n\n", bytes(statistics.saved_bytes),
             bytes(statistics.saved_bytes_f32));
  Table ops({{"op"}, {"count", Align::Right}});
  for (const auto& [name, number] : statistics.ops) {
    ops.add_row({name, with_commas(number)});
  }
  ops.print();
}

void print_each_op(const Graph& graph) {
  Table table = statistics_table("op");
  for (const graph::Op& op : graph.ops) {
    std::string name;
    for (const std::optional<ValueId>& output : op.outputs) {
      if (output.has_value()) {
        name = fmt::format("%{} {}", graph.value(*output).name, op.info->name);
        break;
      }
    }
    add_row(table, std::move(name), graph::statistics_of(graph, op));
  }
  table.print();
}

struct StatsOptions {
  std::string file;
  bool each_op = false;
  std::string json_path;
};

void show_statistics(const StatsOptions& options) {
  const Graph graph = value_of(graph::load_graph(options.file));
  const Statistics statistics = graph::statistics_of(graph);
  if (!options.json_path.empty()) {
    write_json(nlohmann::ordered_json::parse(graph::statistics_json(statistics)),
               options.json_path);
    return;
  }
  print_totals(graph, statistics);
  if (options.each_op) {
    fmt::print("\n");
    print_each_op(graph);
  }
}

void show_ops(bool as_markdown) {
  if (as_markdown) {
    fmt::print("{}", graph::ops_markdown());
    return;
  }
  Table table({{"op"}, {"group"}, {"computes"}});
  for (const graph::OpInfo& row : graph::all_ops()) {
    table.add_row({std::string(row.name), std::string(name_of(row.group)), std::string(row.doc)});
  }
  table.print();
}

}  // namespace

void add_graph_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("graph", "Graphs: show, count, and the ops they know");
  command->require_subcommand(1);

  const auto file = std::make_shared<std::string>();
  CLI::App* show = command->add_subcommand("show", "Check a Graph and print its canonical text");
  show->add_option("file", *file, "The Graph's text")->type_name("FILE")->required();
  show->callback([file] { show_graph(*file); });

  const auto options = std::make_shared<StatsOptions>();
  CLI::App* stats = command->add_subcommand("stats", "FLOPs, bytes and counts of a Graph");
  stats->add_option("file", options->file, "The Graph's text")->type_name("FILE")->required();
  stats->add_flag("--ops", options->each_op, "A line for each op, too");
  stats->add_option("--json", options->json_path, "Write it as JSON; - is stdout")
      ->type_name("FILE");
  stats->callback([options] { show_statistics(*options); });

  const auto as_markdown = std::make_shared<bool>(false);
  CLI::App* ops = command->add_subcommand("ops", "The op table");
  ops->add_flag("--markdown", *as_markdown, "As docs/ops.md has it");
  ops->callback([as_markdown] { show_ops(*as_markdown); });

  add_eval_command(*command);
}

}  // namespace dojo::tools
