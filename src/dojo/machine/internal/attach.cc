#include "dojo/machine/internal/attach.h"

namespace dojo::machine::internal {
namespace {

bool is_west_or_east(Side side) { return side == Side::West || side == Side::East; }

// The rim dies of one carrier whose north-west die is `origin`.
std::vector<Attachment> rim(Site origin, Shape carrier, const std::vector<Side>& edges) {
  std::vector<Attachment> places;
  for (const Side side : edges) {
    const int length = is_west_or_east(side) ? carrier.rows : carrier.columns;
    for (int i = 0; i < length; ++i) {
      Site die = origin;
      if (is_west_or_east(side)) {
        die.row += i;
        die.column += side == Side::East ? carrier.columns - 1 : 0;
      } else {
        die.row += side == Side::South ? carrier.rows - 1 : 0;
        die.column += i;
      }
      places.push_back({.die = die, .side = side});
    }
  }
  return places;
}

}  // namespace

Level carrier_level(const Facts& facts) {
  if (facts.tray) {
    return Level::Tray;
  }
  return facts.tile ? Level::Tile : Level::Die;
}

std::int64_t rim_dies(Shape carrier, const std::vector<Side>& edges) {
  std::int64_t count = 0;
  for (const Side side : edges) {
    count += is_west_or_east(side) ? carrier.rows : carrier.columns;
  }
  return count;
}

std::vector<Attachment> attachments(Shape dies, Shape carrier, const std::vector<Side>& edges,
                                    int per_carrier) {
  std::vector<Attachment> out;
  for (int row = 0; row < dies.rows; row += carrier.rows) {
    for (int column = 0; column < dies.columns; column += carrier.columns) {
      const std::vector<Attachment> places = rim({.row = row, .column = column}, carrier, edges);
      for (std::int64_t i = 0; i < per_carrier; ++i) {
        const auto place = i * static_cast<std::int64_t>(places.size()) / per_carrier;
        out.push_back(places[static_cast<std::size_t>(place)]);
      }
    }
  }
  return out;
}

}  // namespace dojo::machine::internal
