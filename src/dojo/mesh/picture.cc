#include "dojo/mesh/picture.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

namespace dojo::mesh {
namespace {

constexpr double kPitch = 28;  // between routers
constexpr double kMargin = 40;
constexpr double kOffset = 3;  // of the two directions of a link

// Pale yellow to dark red.
std::string colour(double load) {
  const double t = std::clamp(load, 0.0, 1.0);
  return fmt::format("rgb({:.0f},{:.0f},{:.0f})", 250 - 120 * t, 225 * (1 - t),
                     150 * (1 - t) * (1 - t));
}

void line(std::string& svg, double x1, double y1, double x2, double y2, double load) {
  fmt::format_to(std::back_inserter(svg),
                 "<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}' stroke='{}' "
                 "stroke-width='{:.1f}'><title>{:.4f}</title></line>\n",
                 x1, y1, x2, y2, colour(load), 1.5 + 3.5 * load, load);
}

void label(std::string& svg, double x, double y, const std::string& text) {
  fmt::format_to(std::back_inserter(svg),
                 "<text x='{:.1f}' y='{:.1f}' font-family='sans-serif' font-size='11'>{}</text>\n",
                 x, y, text);
}

std::string start(double width, double height) {
  return fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0:.0f} {1:.0f}' width='{0:.0f}' "
      "height='{1:.0f}'>\n<rect width='100%' height='100%' fill='white'/>\n",
      width, height);
}

void draw_router(std::string& svg, const Mesh& mesh, int router) {
  constexpr std::array kDx{1, -1, 0, 0};
  constexpr std::array kDy{0, 0, 1, -1};
  const double x = kMargin + kPitch * (router % mesh.columns());
  const double y = kMargin + kPitch * (router / mesh.columns());
  for (int port = 0; port < kLocal; ++port) {
    const std::uint64_t flits = mesh.flits_sent(router, port);
    if (flits == 0) {
      continue;
    }
    const auto i = static_cast<std::size_t>(port);
    const double load = static_cast<double>(flits) / std::max<double>(mesh.now(), 1);
    const double side_x = kOffset * kDy[i];
    const double side_y = -kOffset * kDx[i];
    line(svg, x + side_x + 5 * kDx[i], y + side_y + 5 * kDy[i], x + side_x + (kPitch - 5) * kDx[i],
         y + side_y + (kPitch - 5) * kDy[i], load);
  }
  fmt::format_to(std::back_inserter(svg),
                 "<rect x='{:.1f}' y='{:.1f}' width='8' height='8' fill='#555'/>\n", x - 4, y - 4);
}

}  // namespace

std::string heat_map(const Mesh& mesh) {
  const double width = 2 * kMargin + kPitch * (mesh.columns() - 1);
  const double height = 2 * kMargin + kPitch * (mesh.routers() / mesh.columns() - 1) + 30;
  std::string svg = start(std::max(width, 260.0), height);
  for (int router = 0; router < mesh.routers(); ++router) {
    draw_router(svg, mesh, router);
  }
  label(svg, 10, height - 10, "flits per cycle:");
  for (int i = 0; i <= 4; ++i) {
    line(svg, 100 + 30 * i, height - 14, 118 + 30 * i, height - 14, 0.25 * i);
    label(svg, 101 + 30 * i, height - 20, fmt::format("{:.2f}", 0.25 * i));
  }
  return svg + "</svg>\n";
}

std::string load_curve(std::span<const LoadPoint> points) {
  constexpr double kWidth = 560;
  constexpr double kHeight = 360;
  constexpr double kLeft = 60;
  constexpr double kBottom = 40;
  double highest = 1;
  double rate = 1e-9;
  for (const LoadPoint& point : points) {
    highest = std::max(highest, point.saturated ? 0 : point.latency);
    rate = std::max(rate, point.rate);
  }
  const auto x_of = [&](double r) { return kLeft + (kWidth - kLeft - 20) * r / rate; };
  const auto y_of = [&](double l) {
    return kHeight - kBottom - (kHeight - kBottom - 30) * l / highest;
  };
  std::string svg = start(kWidth, kHeight);
  std::string path;
  for (const LoadPoint& point : points) {
    if (point.saturated) {
      label(svg, x_of(point.rate) - 4, 24, "x");
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : " L", x_of(point.rate),
                        y_of(point.latency));
    fmt::format_to(std::back_inserter(svg), "<circle cx='{:.1f}' cy='{:.1f}' r='3'/>\n",
                   x_of(point.rate), y_of(point.latency));
    label(svg, x_of(point.rate) - 10, kHeight - kBottom + 16, fmt::format("{:g}", point.rate));
  }
  fmt::format_to(std::back_inserter(svg), "<path d='{}' fill='none' stroke='black'/>\n", path);
  for (int i = 0; i <= 4; ++i) {
    label(svg, 10, y_of(highest * i / 4) + 4, fmt::format("{:.4g}", highest * i / 4));
  }
  label(svg, kLeft, 14, "mean packet latency, cycles; x: saturated");
  label(svg, kWidth - 220, kHeight - 6, "offered, flits per node and cycle");
  return svg + "</svg>\n";
}

}  // namespace dojo::mesh
