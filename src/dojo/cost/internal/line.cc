#include "dojo/cost/internal/line.h"

#include <algorithm>
#include <numeric>

namespace dojo::cost::internal {

using machine::LinkClass;

std::int64_t Line::extra() const {
  return std::accumulate(
      crossings.begin(), crossings.end(), std::int64_t{nodes - 1} * (spacing - 1),
      [](std::int64_t sum, const Crossing& at) { return sum + at.extra.count(); });
}

Line row_of(const machine::Region& region, const machine::MachineModel& machine, int spacing) {
  Line line{.nodes = std::max(1, region.columns() / spacing), .crossings = {}, .spacing = spacing};
  const int unused = machine.logical.columns - region.nodes_of_die.columns;
  for (int die = 1; die < region.dies.columns; ++die) {
    const LinkClass link = machine.column_boundary(region.first_die.column + die - 1);
    const machine::LinkModel& model = machine.link(link);
    line.crossings.push_back({.before = die * region.nodes_of_die.columns / spacing,
                              .extra = model.latency - Cycles{1} + Cycles{unused},
                              .rate = model.per_row.value(),
                              .lines = region.nodes_of_die.rows,
                              .link = link});
  }
  return line;
}

Line column_of(const machine::Region& region, const machine::MachineModel& machine, int spacing) {
  Line line{.nodes = std::max(1, region.rows() / spacing), .crossings = {}, .spacing = spacing};
  const int unused = machine.logical.rows - region.nodes_of_die.rows;
  for (int die = 1; die < region.dies.rows; ++die) {
    const LinkClass link = machine.row_boundary(region.first_die.row + die - 1);
    const machine::LinkModel& model = machine.link(link);
    line.crossings.push_back({.before = die * region.nodes_of_die.rows / spacing,
                              .extra = model.latency - Cycles{1} + Cycles{unused},
                              .rate = model.per_column.value(),
                              .lines = region.nodes_of_die.columns,
                              .link = link});
  }
  return line;
}

double packets(Bytes bytes, const machine::MachineModel& machine) {
  const std::int64_t size = machine.network.packet.count();
  const std::int64_t whole = (bytes.count() + size - 1) / size;
  return static_cast<double>(whole);
}

void Loads::add(LinkClass link, double unit_bytes, double cycles) {
  double& bytes = bytes_[static_cast<std::size_t>(link)];
  bytes = std::max(bytes, unit_bytes);
  if (cycles > busy_) {
    busy_ = cycles;
    busiest_ = link;
  }
}

Loads& Loads::port(double packets) {
  const double bytes = packets * static_cast<double>(machine_->network.packet.count());
  add(LinkClass::PortIn, bytes, bytes / machine_->link(LinkClass::PortIn).rate.value());
  add(LinkClass::PortOut, bytes, bytes / machine_->link(LinkClass::PortOut).rate.value());
  return *this;
}

Loads& Loads::link(double packets) {
  const double bytes = flows_ * packets * static_cast<double>(machine_->network.packet.count());
  add(LinkClass::NodeLink, bytes, bytes / machine_->link(LinkClass::NodeLink).rate.value());
  return *this;
}

Loads& Loads::slot(double port_packets, double link_packets) {
  const double packet = static_cast<double>(machine_->network.packet.count());
  const double port_cycles = port_packets * packet / machine_->link(LinkClass::PortIn).rate.value();
  link_packets *= flows_;
  const double link_cycles =
      link_packets * packet / machine_->link(LinkClass::NodeLink).rate.value();
  bytes_[static_cast<std::size_t>(LinkClass::PortIn)] += port_packets * packet;
  bytes_[static_cast<std::size_t>(LinkClass::PortOut)] += port_packets * packet;
  bytes_[static_cast<std::size_t>(LinkClass::NodeLink)] += link_packets * packet;
  busy_ += std::max(port_cycles, link_cycles);
  busiest_ = bytes_[static_cast<std::size_t>(LinkClass::NodeLink)] >
                     bytes_[static_cast<std::size_t>(LinkClass::PortIn)]
                 ? LinkClass::NodeLink
                 : LinkClass::PortIn;
  return *this;
}

Loads& Loads::crossing(const Crossing& at, double packets, double total) {
  const double packet = static_cast<double>(machine_->network.packet.count());
  const double bytes = flows_ * packets * packet;
  add(at.link, bytes * at.lines, bytes / at.rate);
  return passes(at.link, total);
}

Loads& Loads::passes(machine::LinkClass link, double total) {
  traffic_.outer[static_cast<std::size_t>(link)] +=
      total * static_cast<double>(machine_->network.packet.count());
  return *this;
}

Loads& Loads::moves(double received, double hops) {
  const double packet = static_cast<double>(machine_->network.packet.count());
  traffic_.sram += 2 * received * packet;
  traffic_.hops += hops * packet;
  return *this;
}

TransferCost Loads::with_latency(std::int64_t cycles) const {
  return {.latency = Cycles{cycles},
          .busy = busy_,
          .busiest = busiest_,
          .bytes = bytes_,
          .traffic = traffic_};
}

}  // namespace dojo::cost::internal
